#!/usr/bin/env bash
# Deploys the newest task definition of a stack through CodeDeploy: bash release.sh STACK. Needs the AWS CLI and jq.
set -euo pipefail
cd "$(dirname "$0")"
stack=${1:?usage: bash release.sh STACK}

task_definition=$(aws cloudformation describe-stacks --stack-name "$stack" \
  --query "Stacks[0].Outputs[?OutputKey=='TaskDefinition'].OutputValue" --output text)
revision=$(sed "s|<TASK_DEFINITION>|$task_definition|" appspec.yaml |
  jq --raw-input --slurp '{revisionType: "AppSpecContent", appSpecContent: {content: .}}')
aws deploy create-deployment --application-name "$stack" --deployment-group-name web --revision "$revision"
