#!/usr/bin/env bash
# Invokes every function with its sample event, by the commands of the README's section "A function by hand". Needs a
# finished `cargo build --workspace`, and cargo-lambda and the AWS CLI on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

logs=$(mktemp -d)
server= functions=
passed=0
# Samples that were invoked, a line for each.
invoked=

finish() {
  local status=$?
  trap - EXIT
  if [ "$status" -ne 0 ]; then
    printf '\n-- the functions, last lines\n'
    tail -n 30 "$logs/functions" 2>/dev/null || true
    printf '\n-- serve, last lines\n'
    tail -n 10 "$logs/serve" "$logs/serve.errors" 2>/dev/null || true
  fi
  # cargo-lambda ends its functions on TERM, serve on INT.
  [ -z "$functions" ] || kill -TERM "$functions" 2>/dev/null || true
  [ -z "$server" ] || kill -INT "$server" 2>/dev/null || true
  wait
  rm -rf "$logs"
  exit "$status"
}
trap finish EXIT

fail() {
  printf 'failed: %s\n' "$*"
  exit 1
}

# wait_for SECONDS COMMAND...: until the command succeeds; false when it does not in that time.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.2
  done
}

# field NAME <JSON: the field's value; empty when it is missing or the text is no JSON.
field() {
  python3 -c '
import json, sys
try:
    print(json.load(sys.stdin).get(sys.argv[1]) or "")
except ValueError:
    pass' "$1"
}

# Status of the lifecycle event EVENT of the deployment ID.
event_status() {
  local target
  target=$(aws deploy list-deployment-targets --deployment-id "$1" --query 'targetIds[0]' --output text)
  aws deploy get-deployment-target --deployment-id "$1" --target-id "$target" --output text \
    --query "deploymentTarget.ecsTarget.lifecycleEvents[?lifecycleEventName=='$2'].status | [0]"
}

event_has_succeeded() {
  [ "$(event_status "$1" "$2")" = Succeeded ]
}

# invoke FUNCTION SAMPLE: leaves in `answer` what the function makes of events/SAMPLE.json.
invoke() {
  local function=$1 sample=$2
  answer=$(timeout 120 cargo lambda invoke "$function" --invoke-address 127.0.0.1 --invoke-port 9312 \
    --data-file "events/$sample.json") || fail "$function gave no answer to $sample: $answer"
  invoked+="events/$sample.json"$'\n'
}

# invoke_stage SAMPLE STATUS...: ECS must be answered with one of these.
invoke_stage() {
  local sample=$1 status
  shift
  invoke ecs-lifecycle "$sample"
  status=$(field hookStatus <<<"$answer")
  [[ " $* " == *" ${status:-none} "* ]] || fail "$sample was not answered with $*: $answer"
  printf '%-34s %s: %s\n' "$sample" "$status" "$(field reason <<<"$answer")"
  passed=$((passed + 1))
}

# Whether ECS has asked for 10 % of the traffic for green.
green_has_its_first_step() {
  local weight
  weight=$(aws ecs describe-service-deployments --service-deployment-arns "$1" --output text \
    --query 'serviceDeployments[0].targetServiceRevision.requestedProductionTrafficWeight')
  [[ $weight == 10 || $weight == 10.0 ]]
}

port_is_open() {
  (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

cargo run -- serve --port 4599 >"$logs/serve" 2>"$logs/serve.errors" &
server=$!
wait_for 60 grep --quiet '^# ready' "$logs/serve" || fail "serve was not ready within a minute"
# As somebody does who pastes the lines.
grep '^export ' "$logs/serve" >"$logs/exports"
source "$logs/exports"

cargo lambda watch --invoke-address 127.0.0.1 --invoke-port 9312 --ignore-changes >"$logs/functions" 2>&1 &
functions=$!
wait_for 60 port_is_open 9312 || fail "cargo lambda watch did not open its port within a minute"

for function in before-install after-install after-allow-test-traffic before-allow-traffic after-allow-traffic; do
  # BeforeInstall for before-install
  event=$(sed --regexp-extended 's/(^|-)([a-z])/\u\2/g' <<<"$function")
  deployment=$(field DeploymentId <"events/$function.json")
  status=$(event_status "$deployment" "$event")
  [ "$status" = InProgress ] || fail "$deployment does not wait at $event: the event is $status"
  invoke "$function" "$function"
  [ "$(field reported <<<"$answer")" = taken ] || fail "$function: CodeDeploy did not take a report: $answer"
  [ "$(field answer <<<"$answer")" = Succeeded ] || fail "$function did not let its healthy release go on: $answer"
  wait_for 10 event_has_succeeded "$deployment" "$event" \
    || fail "$function reported, but $event of $deployment is $(event_status "$deployment" "$event")"
  printf '%-26s %s, taken: %s\n' "$function" "$(field answer <<<"$answer")" "$(field reason <<<"$answer")"
  passed=$((passed + 1))
done

invoke watch watch
next=$(field next <<<"$answer")
[[ $next = again || $next = done ]] || fail "watch does not say whether to look again: $answer"
printf '%-26s next: %s\n' watch "$next"
passed=$((passed + 1))

# The deployment that ECS carries out waits at a pause before production traffic shifts.
for stage in reconcile-service pre-scale-up post-scale-up test-traffic-shift post-test-traffic-shift \
  pre-production-traffic-shift rollback; do
  invoke_stage "ecs-$stage" SUCCEEDED
done

# Its service is no rolling update, so the event that begins one starts nothing.
invoke ecs-lifecycle ecs-rolling-update
[ "$(field watch <<<"$answer")" = "not started" ] || fail "a watch was started: $answer"
printf '%-34s not started: %s\n' ecs-rolling-update "$(field reason <<<"$answer")"
passed=$((passed + 1))

deployment=$(field resourceArn <events/ecs-production-traffic-shift.json)
aws ecs continue-service-deployment --service-deployment-arn "$deployment" --hook-id ecs-pause-sample --action CONTINUE \
  >/dev/null
wait_for 30 green_has_its_first_step "$deployment" || fail "green has not got its first step"
invoke_stage ecs-production-traffic-shift IN_PROGRESS SUCCEEDED
invoke_stage ecs-post-production-traffic-shift IN_PROGRESS

printf '\nevery event sample is invoked\n'
forgotten=$(comm -13 <(printf '%s' "$invoked" | sort) <(printf '%s\n' events/*.json | sort))
[ -z "$forgotten" ] || fail "no function was asked about $forgotten"

printf '%d passed, 0 failed\n' "$passed"
