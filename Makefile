SHELL := /bin/bash
.DELETE_ON_ERROR:

# Whatever is built once and used again lies here, outside the tree. Go keeps its own caches where `go env` says.
CACHE ?= $(or $(LOCALCLUSTER_CACHE),$(HOME)/.cache/transparent-checkpoint)
NAME ?= demo
LINTER := $(CACHE)/lint/golangci-lint-$(shell cat tests/lint/go.mod tests/lint/go.sum | sha256sum | cut -c1-12)

export LOCALCLUSTER_CACHE := $(CACHE)
export GOFLAGS := -buildvcs=false

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The local cluster

.PHONY: cluster
cluster: bin/localcluster prerequisites ## bring up a real Kubernetes with CRIU on this machine (NAME=demo); builds its parts first
	bin/localcluster --name $(NAME) up

.PHONY: cluster-down
cluster-down: bin/localcluster ## end that cluster and remove everything of it
	bin/localcluster --name $(NAME) down

# Debian's packages without which the parts cannot be built. They are looked for by what they bring.
.PHONY: prerequisites
prerequisites: ## install what the parts are built with (gcc, debootstrap, …), as far as it is missing
	@missing=; \
	for need in gcc:gcc git:git debootstrap:debootstrap patchelf:patchelf mkfs.ext4:e2fsprogs nsenter:util-linux mount:mount; do \
	  command -v $${need%%:*} > /dev/null || missing+=" $${need##*:}"; done; \
	test -e /usr/include/seccomp.h || missing+=" libseccomp-dev"; \
	test -e /usr/lib/x86_64-linux-gnu/libc.a || missing+=" libc6-dev"; \
	test -e /usr/share/keyrings/debian-archive-keyring.gpg || missing+=" debian-archive-keyring"; \
	test -z "$$missing" || { echo "installing$$missing"; apt-get update -q && apt-get install -q -y --no-install-recommends $$missing; }

##@ Building and checking

.PHONY: bin/localcluster
bin/localcluster:
	@CGO_ENABLED=0 go build -o $@ ./tests/cluster

.PHONY: test
test: bin/localcluster prerequisites ## run every test; those on a real cluster need root, and are skipped with the reason on a laptop
	@if [ "$$(id -u)" = 0 ]; then parts=$$(bin/localcluster build) || exit 1; export TEST_MINIO=$$parts/bin/minio; fi; \
	go test -count=1 -timeout 40m $(TESTFLAGS) ./...

.PHONY: lint
lint: $(LINTER) ## check the style and who imports whom
	$(LINTER) run ./...

$(LINTER):
	@mkdir -p $(dir $@)
	@echo "building golangci-lint (about 1 minute) …"
	@cd tests/lint && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: verify
verify: lint ## check that what is derived fits what it comes from: go.mod files, formatting, the paths that the documentation names
	@for module in . tests/lint $(wildcard tests/cluster/parts/*/go.mod); do \
	  dir=$${module%/go.mod}; (cd $$dir && go mod tidy -diff) || { echo "go.mod or go.sum of $$dir is not tidy"; exit 1; }; done
	go test -count=1 ./tests/docs

.PHONY: clean
clean: ## remove what was built in the tree
	rm -rf bin build

.PHONY: clean-cache
clean-cache: ## remove the built parts of the cluster, Debian's packages and the linter (Go's own caches: `go clean -cache -modcache`)
	rm -rf $(CACHE)
