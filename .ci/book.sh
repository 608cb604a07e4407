#!/usr/bin/env bash
# The book: `bash .ci/book.sh` builds docs/ into target/book, and fails when a generated page is old or a link is dead. Needs
# Rust and Python 3 with venv; a network for the first build only.
set -euo pipefail
cd "$(dirname "$0")/.."

# Kept between runs for as long as the list is the same.
venv=target/venv-docs
if ! cmp --silent .ci/requirements-docs.txt "$venv/installed"; then
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement .ci/requirements-docs.txt
  cp .ci/requirements-docs.txt "$venv/installed"
fi

# Without optimisation, and without the server: a book of this size takes a second all the same.
mdbook=0.5.4
.venv/bin/mdbook --version 2>/dev/null | grep --quiet "v$mdbook$" \
  || cargo install mdbook --version "$mdbook" --locked --debug --quiet --no-default-features --features search --root .venv

"$venv/bin/python" .ci/policy_reference.py --check
"$venv/bin/python" .ci/template_reference.py --check

rm -rf target/book
log=$(mktemp)
trap 'rm -f "$log"' EXIT
.venv/bin/mdbook build docs 2>&1 | tee "$log"
# What mdBook is not sure about (HTML that is never closed, for example) is a mistake here.
if grep --quiet -E '^ *(WARN|ERROR)' "$log"; then exit 1; fi

"$venv/bin/python" .ci/book_links.py target/book
