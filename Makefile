# One target for each task of a user or developer. Tasks of more than one command are subcommands of
# `cargo xtask`.

# Number of nodes of the local cluster; 0 is a control plane only.
NODES ?= 2
# Number of rules of `make bench`. Its NODES are 1000 by default. SIGNALS=pods makes the rules require pods.
RULES ?= 1
# The Kubernetes version that the local cluster emulates: 1.37, 1.35 (gate on) or 1.34 (without the feature).
KUBE ?= 1.37
# Names of the images: $(IMG_PREFIX)/operator:$(IMG_TAG) and so on.
IMG_PREFIX ?= node-readiness
IMG_TAG ?= v$(shell awk -F '"' '/^version = / { print $$2; exit }' Cargo.toml)

XTASK := cargo xtask

# The cluster to work on: the one that KUBECONFIG names, else the local one if it exists, else kubectl's
# default. Make evaluates this when a recipe runs, so `make cluster-up install deploy` works.
LOCAL_KUBECONFIG := $(CURDIR)/.cluster/kubeconfig
# Not empty for the local cluster, whose nodes take images from this checkout.
LOCAL = $(filter $(LOCAL_KUBECONFIG),$(or $(KUBECONFIG),$(shell ls $(LOCAL_KUBECONFIG) 2>/dev/null)))
KUBECTL = $(if $(LOCAL),$(CURDIR)/.cluster/bin/kubectl --kubeconfig $(LOCAL_KUBECONFIG),kubectl)
# Name of the kind cluster, if kubectl works on one: its nodes take images from Docker.
KIND = $(if $(LOCAL),,$(patsubst kind-%,%,$(filter kind-%,$(shell kubectl config current-context 2>/dev/null))))
# Not empty if the images have their default names, which are in no registry.
UNPUBLISHED = $(filter file,$(origin IMG_PREFIX))
# Not empty if `make deploy` loads images from this checkout and has done so before. The names of the images
# stay the same, so the pods need a restart. Make expands a recipe as a whole, so it checks this before it deploys.
REDEPLOY = $(if $(LOCAL)$(and $(KIND),$(UNPUBLISHED)),$(shell $(KUBECTL) -n nrr-system get $(OPERATOR) --ignore-not-found -o name))
# Number of replicas. One of them leads, and the others stand by.
REPLICAS ?= 2
# How long `make deploy` waits for the replicas.
DEPLOY_TIMEOUT ?= 180s
# Flags of the operator in addition to those of config/manager, such as --guard=strict.
OPERATOR_FLAGS ?=
# Whether undeploy and uninstall ignore missing objects.
ignore-not-found ?= false
# The label of objects that the operator creates and no manifest names.
MANAGED := app.kubernetes.io/managed-by=node-readiness-operator
OPERATOR := deployment/nrr-controller-manager
CRD := crds/readiness.node.x-k8s.io_nodereadinessrules.yaml
OVERLAY := dist/overlay
KIND_CONFIG := config/testing/kind/kind-constrained-impersonation-config.yaml

.DEFAULT_GOAL := help

##@ General

.PHONY: help
help: ## Show this help
	@awk 'BEGIN { FS = ":.*##" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-zA-Z_-]+:.*##/ { printf "  %-24s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Try and test

.PHONY: demo
demo: ## Show the project at work on a new cluster of two real nodes
	$(call say-if-first)
	$(XTASK) demo

.PHONY: test
test: ## Run every check and test
	$(call say-if-first)
	$(XTASK) test

.PHONY: docs
docs: ## Build the docs as a book, dist/book/html/index.html
	$(call say-if-first)
	$(XTASK) docs

.PHONY: bench
bench: ## Measure the operator against the API server's own speed (NODES=1000, RULES=1, SIGNALS=conditions or pods)
	$(call say-if-first)
	$(XTASK) bench --nodes $(if $(filter file,$(origin NODES)),1000,$(NODES)) --rules $(RULES)

.PHONY: bench-quick
bench-quick: ## Count the operator's requests on 300 nodes
	$(call say-if-first)
	$(XTASK) bench --quick

.PHONY: bench-reporter
bench-reporter: ## Measure a reporter's memory, CPU, requests and image size
	$(call say-if-first)
	$(XTASK) bench-reporter

.PHONY: bench-release
bench-release: ## Measure how long a node waits after its agent answers, on two real nodes
	$(call say-if-first)
	$(XTASK) bench-release

.PHONY: generate
generate: ## Generate the manifests that are derived from Rust types
	$(XTASK) generate

##@ Your cluster (KUBECONFIG, else the local one while it runs)

.PHONY: install
install: ## Install the NodeReadinessRule CustomResourceDefinition
	$(KUBECTL) apply --server-side -k crds
	$(KUBECTL) wait --for=condition=Established --timeout=60s -f $(CRD)

.PHONY: uninstall
uninstall: ## Delete all rules and the CustomResourceDefinition
	$(call delete-rules)
	$(KUBECTL) delete -k crds --ignore-not-found=$(ignore-not-found)

.PHONY: deploy
deploy: overlay ## Deploy the operator (IMG_PREFIX, IMG_TAG, OPERATOR_FLAGS, REPLICAS=2)
	$(if $(LOCAL),@$(MAKE) --no-print-directory load-images)
	$(if $(and $(KIND),$(UNPUBLISHED)),@$(MAKE) --no-print-directory kind-load)
	$(KUBECTL) apply -k $(OVERLAY)
	$(if $(REDEPLOY),$(KUBECTL) -n nrr-system rollout restart $(OPERATOR))
	$(if $(filter 1,$(REPLICAS)),$(KUBECTL) -n nrr-system delete poddisruptionbudget nrr-controller-manager --ignore-not-found)
	@hack/await-operator.sh $(DEPLOY_TIMEOUT) $(KUBECTL)
	$(if $(REDEPLOY),$(KUBECTL) -n nrr-reporters rollout restart daemonset -l $(MANAGED))

.PHONY: undeploy
undeploy: ## Delete all rules, then the operator (ignore-not-found=true)
	$(call delete-rules)
	$(KUBECTL) delete -k config/default --ignore-not-found=$(ignore-not-found)
	$(KUBECTL) delete validatingadmissionpolicybindings,validatingadmissionpolicies -l $(MANAGED)

.PHONY: run
run: ## Run the operator from source against your cluster (OPERATOR_FLAGS)
	$(KUBECTL) apply -k config/reporters
	$(if $(LOCAL),KUBECONFIG=$(LOCAL_KUBECONFIG)) cargo run -p node-readiness-operator -- \
		--reporter-image=$(IMG_PREFIX)/reporter:$(IMG_TAG) $(OPERATOR_FLAGS)

.PHONY: build-installer
build-installer: overlay ## Write all that install and deploy apply to dist/install.yaml
	@mkdir -p dist
	{ $(KUBECTL) kustomize crds; echo ---; $(KUBECTL) kustomize $(OVERLAY); } > dist/install.yaml

##@ Local cluster

.PHONY: cluster-up
cluster-up: ## Start a local cluster without Docker (NODES=2, KUBE=1.37)
	$(call say-if-first)
	$(XTASK) cluster up --nodes $(NODES) --kube $(KUBE)

.PHONY: cluster-down
cluster-down: ## End it, and what killed tests and benchmarks of this checkout left
	$(XTASK) cluster down

.PHONY: kind-up
kind-up: ## With Docker instead: create a kind cluster with the feature gate on
	$(if $(LOCAL),@echo "make works on the local cluster: run make cluster-down and unset KUBECONFIG first" >&2; exit 1)
	kind create cluster --config $(KIND_CONFIG) --image kindest/node:v1.35.0

##@ Images

.PHONY: images
images: ## Build the images as archives in .cluster/images, without Docker
	$(XTASK) images --img-prefix $(IMG_PREFIX) --img-tag $(IMG_TAG)

.PHONY: load-images
load-images: ## Build them and load them into the local cluster's nodes
	$(XTASK) images --load --img-prefix $(IMG_PREFIX) --img-tag $(IMG_TAG)

.PHONY: docker-build
docker-build: ## With Docker: build the operator's image
	docker build --target operator --tag $(IMG_PREFIX)/operator:$(IMG_TAG) .

.PHONY: docker-build-reporter
docker-build-reporter: ## With Docker: build the reporter's image
	docker build --target reporter --tag $(IMG_PREFIX)/reporter:$(IMG_TAG) .

.PHONY: kind-load
kind-load: docker-build docker-build-reporter ## With Docker: build both and load them into kind
	kind load docker-image $(IMG_PREFIX)/operator:$(IMG_TAG) $(IMG_PREFIX)/reporter:$(IMG_TAG) $(if $(KIND),--name $(KIND))

# cargo prints nothing while it compiles xtask.
define say-if-first
	@test -x $${CARGO_TARGET_DIR:-target}/debug/node-readiness-xtask || \
		echo "compiling the task runner first, which takes a minute or two"
endef

# Adds one of the flags, on a line of its own.
define OPERATOR_FLAG_PATCH

    - {op: add, path: /spec/template/spec/containers/0/args/-, value: "$(flag)"}
endef

# A single replica needs no budget, which would only block the drain of its node.
define WITHOUT_DISRUPTION_BUDGET

- patch: |-
    $$patch: delete
    apiVersion: policy/v1
    kind: PodDisruptionBudget
    metadata:
      name: nrr-controller-manager
      namespace: nrr-system
endef

# config/default with the images that IMG_PREFIX and IMG_TAG name. No manifest runs the reporters' image,
# so kustomize cannot replace it.
define OVERLAY_KUSTOMIZATION
resources:
- ../../config/default
images:
- name: node-readiness/operator
  newName: $(IMG_PREFIX)/operator
  newTag: $(IMG_TAG)
replicas:
- name: nrr-controller-manager
  count: $(REPLICAS)
patches:
- target:
    kind: Deployment
    name: nrr-controller-manager
  patch: |-
    - op: replace
      path: /spec/template/spec/containers/0/env/0/value
      value: $(IMG_PREFIX)/reporter:$(IMG_TAG)$(foreach flag,$(OPERATOR_FLAGS),$(OPERATOR_FLAG_PATCH))$(if $(filter 1,$(REPLICAS)),$(WITHOUT_DISRUPTION_BUDGET))
endef
export OVERLAY_KUSTOMIZATION

.PHONY: overlay
overlay:
	@mkdir -p $(OVERLAY)
	@echo "$$OVERLAY_KUSTOMIZATION" > $(OVERLAY)/kustomization.yaml

# Rules are deleted while the operator runs, because it removes their taints before their finalizers.
define delete-rules
	@if $(KUBECTL) get -f $(CRD) >/dev/null 2>&1; then \
		echo "deleting all NodeReadinessRules first, so that the operator cleans up the nodes"; \
		$(KUBECTL) delete nodereadinessrules --all --timeout=120s || { \
			echo "some rules still exist: is the operator running? See kubectl -n nrr-system get pods" >&2; exit 1; }; \
	fi
endef
