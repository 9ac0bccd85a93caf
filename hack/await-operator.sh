#!/bin/sh
# Waits until the operator runs as deployed. After the timeout, prints what its pods wait for.
#
# usage: hack/await-operator.sh TIMEOUT KUBECTL [ARGUMENT...]
set -eu

timeout=$1
shift

if "$@" -n nrr-system rollout status deployment/nrr-controller-manager --timeout="$timeout"; then
  exit 0
fi

# One line for each pod, and one for each reason why it waits.
waiting='{{range .items}}{{.metadata.name}} on {{or .spec.nodeName "no node"}}: {{.status.phase}}
{{range .status.conditions}}{{if and (eq .type "PodScheduled") (eq .status "False")}}  {{.reason}}: {{.message}}
{{end}}{{end}}{{range .status.containerStatuses}}{{$name := .name}}{{with .state.waiting}}  {{$name}} waits: {{.reason}}{{with .message}}: {{.}}{{end}}
{{end}}{{with .lastState.terminated}}  {{$name}} ended with exit code {{.exitCode}}: {{.reason}}{{with .message}}: {{.}}{{end}}
{{end}}{{end}}{{end}}'

{
  echo
  echo "The operator does not run as deployed after $timeout. Its pods:"
  "$@" -n nrr-system get pods -l control-plane=controller-manager -o go-template="$waiting"
  echo "The last warnings in its namespace:"
  "$@" -n nrr-system get events --field-selector type=Warning --sort-by=.metadata.creationTimestamp \
    -o custom-columns=OBJECT:.involvedObject.name,REASON:.reason,MESSAGE:.message | tail -n 6
  echo "More: kubectl -n nrr-system describe pods, and docs/operations.md, When the operator does not start"
} >&2
exit 1
