# What people do with this project, one target each. What takes more than a command
# is a subcommand of `cargo xtask`.

# How many nodes the local cluster has; 0 is a control plane only.
NODES ?= 2
# Which Kubernetes it looks like: 1.37, 1.35 (gate on) or 1.34 (without the feature).
KUBE ?= 1.37
# Names of the images: $(IMG_PREFIX)/operator:$(IMG_TAG) and so on.
IMG_PREFIX ?= node-readiness
IMG_TAG ?= v$(shell awk -F '"' '/^version = / { print $$2; exit }' Cargo.toml)

XTASK := cargo xtask
KIND_CONFIG := config/testing/kind/kind-constrained-impersonation-config.yaml

.DEFAULT_GOAL := help

##@ General

.PHONY: help
help: ## Show this help
	@awk 'BEGIN { FS = ":.*##" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-zA-Z_-]+:.*##/ { printf "  %-24s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ Local cluster

.PHONY: cluster-up
cluster-up: ## Start a local cluster without Docker (NODES=2, KUBE=1.37)
	$(XTASK) cluster up --nodes $(NODES) --kube $(KUBE)

.PHONY: cluster-down
cluster-down: ## End it and remove all that it left on the machine
	$(XTASK) cluster down

.PHONY: kind-up
kind-up: ## With Docker instead: create a kind cluster with the feature gate on
	kind create cluster --config $(KIND_CONFIG) --image kindest/node:v1.35.0

##@ Images

.PHONY: images
images: ## Build the images as archives in .cluster/images, without Docker
	$(XTASK) images --img-prefix $(IMG_PREFIX) --img-tag $(IMG_TAG)
