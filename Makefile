SHELL := /bin/bash
.DELETE_ON_ERROR:

# Whatever is built once and used again lies here, outside the tree. Go keeps its own caches where `go env` says.
CACHE ?= $(or $(LOCALCLUSTER_CACHE),$(HOME)/.cache/transparent-checkpoint)
NAME ?= $(or $(LOCALCLUSTER_NAME),demo)
REFERENCE := $(CACHE)/reference/crd-ref-docs-$(shell cat tests/reference/go.mod tests/reference/go.sum | sha256sum | cut -c1-12)
HELM := $(CACHE)/helm/helm-$(shell cat tests/chart/go.mod tests/chart/go.sum | sha256sum | cut -c1-12)
LINTER := $(CACHE)/lint/golangci-lint-$(shell cat tests/lint/go.mod tests/lint/go.sum | sha256sum | cut -c1-12)
RERUN := $(CACHE)/rerun/gotestsum-$(shell cat tests/rerun/go.mod tests/rerun/go.sum | sha256sum | cut -c1-12)
VULNCHECK := $(CACHE)/lint/vulncheck-$(shell cat tests/vulncheck/go.* tests/vulncheck/main.go | sha256sum | cut -c1-12)

export LOCALCLUSTER_CACHE := $(CACHE)
export GOFLAGS := -buildvcs=false$(if $(BUILD_TAGS), -tags=$(BUILD_TAGS))

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

.PHONY: vm-image
vm-image: bin/localcluster prerequisites ## make what the nodes of `up --vm-nodes` boot from: Debian's kernel, systemd (cached; installs qemu if need be)
	@missing=; for need in qemu-system-x86_64:qemu-system-x86 ssh:openssh-client; do \
	  command -v $${need%%:*} > /dev/null || missing+=" $${need##*:}"; done; \
	test -z "$$missing" || { echo "installing$$missing"; apt-get update -q && apt-get install -q -y --no-install-recommends $$missing; }
	@bin/localcluster build --vm-image

##@ The operator

.PHONY: demo demo-down
demo: bin/localcluster prerequisites ## watch a process survive the deletion of its pod: cluster, operator, a Job with one label (NAME=demo)
	@go run ./tests/demo run --name $(NAME)

demo-down: cluster-down ## end the demo's cluster and remove everything of it

IMAGES := build/images$(addprefix -,$(BUILD_TAGS))
.PHONY: images
images: bin/localcluster prerequisites ## build the operator's images for this machine: OCI tars in build/images, without Docker; `image load` takes them
	@mkdir -p $(IMAGES) && flock $(IMAGES)/lock go run ./manifests/images --plain --tag dev --platforms linux/$$(go env GOARCH) --output $(IMAGES)

.PHONY: images-all
images-all: bin/localcluster prerequisites ## build them for amd64 and arm64, reproducibly, into build/release (REPOSITORY=registry/path VERSION=v0.1.0)
	@command -v aarch64-linux-gnu-gcc > /dev/null || { apt-get update -q && \
	  apt-get install -q -y --no-install-recommends gcc-aarch64-linux-gnu libc6-dev-arm64-cross; }
	@mkdir -p build/release && flock build/release/lock go run ./manifests/images --platforms linux/amd64,linux/arm64 --output build/release \
	  $(if $(REPOSITORY),--repository $(REPOSITORY)) $(if $(VERSION),--version $(VERSION))

.PHONY: chart helm
chart: $(HELM) ## package the Helm chart: build/chart/transparent-checkpoint-VERSION.tgz (VERSION=v0.1.0, of the images)
	@$(HELM) package manifests/chart --destination build/chart $(if $(VERSION),--version $(VERSION:v%=%) --app-version $(VERSION))
helm: $(HELM) ## build Helm, in the version that tests/chart/go.mod has, and say where it is
	@echo $(HELM)

##@ Building and checking

.PHONY: bin/localcluster
bin/localcluster:
	@CGO_ENABLED=0 go build -o $@ ./tests/cluster

# Those that bring up a cluster, two at a time, as more would lose patience. Up to eight tests that fail are run once more, and are named.
CLUSTERS := ./tests/integration ./tests/lifecycle ./tests/e2e ./tests/fidelity ./tests/chaos

.PHONY: test
test: bin/localcluster prerequisites $(HELM) $(RERUN) ## run every test; those on a real cluster need root, and are skipped with the reason on a laptop
	@mkdir -p build && rm -f build/reruns; if [ "$$(id -u)" = 0 ]; then parts=$$(bin/localcluster build) || exit 1; export TEST_MINIO=$$parts/bin/minio; fi; \
	on=$$(go list $(CLUSTERS)) && others=$$(go list ./... | grep -vxF "$$on") || exit 1; \
	go test -count=1 $(TESTFLAGS) $$others; failed=$$?; \
	for module in chart monitoring; do (cd tests/$$module && HELM=$(HELM) go test -count=1 $(TESTFLAGS) ./...) || failed=1; done; \
	TEST_PATIENCE=2 $(RERUN) --format standard-quiet --rerun-fails=1 --rerun-fails-max-failures=8 --rerun-fails-report=build/reruns --packages="$$(echo $$on)" \
	  -- -count=1 -timeout 75m -p 2 -parallel 3 $(TESTFLAGS) || failed=1; cat build/reruns 2> /dev/null; \
	if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory _test-vm-ci || failed=1; fi; \
	exit $$failed

# The tests that run again on nodes that are virtual machines, where everything takes ten times as long, and those of them that CI has time for.
VM_TESTS := TestWorkSurvives|TestARestoredContainerSees|TestRightsComeBack|TestTheNewPodsLimits|TestAPodHasItsLimits|TestTenGenerations|TestAppArmor|$(VM_TESTS_POWER)
VM_TESTS_CI := TestAppArmor
VM_TESTS_POWER := TestAnUploadThatWasCutOff|TestPodsAreInTheBucketBefore|TestANodeWhoseKubelet
VMS := 2
DEAD_KERNELS := $(CURDIR)/build/dead-kernels
ON_VMS = TEST_DEAD_KERNELS=$(DEAD_KERNELS) TEST_CLUSTER=vm TEST_NODES='--nodes=0 --vm-nodes=$(VMS)' TEST_PATIENCE=4
# Those that need a node of each kind, where kernel, processor and version of the control groups differ.
BOTH_TESTS := TestAPodCrossesBetweenVersionsOfControlGroups|TestAPodGoesBackToItsKindOfNode
ON_BOTH := TEST_CLUSTER=vm TEST_NODES='--nodes=1 --vm-nodes=1 --vm-cpu=Haswell-noTSX' TEST_PATIENCE=4

.PHONY: test-vm _test-vm-ci _test-vm-once
test-vm: bin/localcluster prerequisites vm-image ## run tests on nodes as users have them: virtual machines with systemd and cgroup v2 (ONLY=regexp)
	$(ON_VMS) go test -count=1 -timeout 40m -parallel 2 $(TESTFLAGS) ./tests/e2e -run '$(or $(ONLY),$(VM_TESTS))'
	$(if $(ONLY),,$(ON_VMS) go test -count=1 -timeout 60m $(TESTFLAGS) ./tests/lifecycle -run 'TestThe')
	$(if $(ONLY),,$(ON_BOTH) go test -count=1 -timeout 10m $(TESTFLAGS) ./tests/e2e -run '$(BOTH_TESTS)')

_test-vm-ci: # once more where the emulation took the kernel of a machine with it, which shows nothing of what is tested
	@mkdir -p build && rm -f $(DEAD_KERNELS); $(MAKE) --no-print-directory _test-vm-once || { \
	  [ -s $(DEAD_KERNELS) ] && echo "a virtual machine's kernel died of its emulation (docs/local-cluster.md); the tests on them run once more:" && \
	  cat $(DEAD_KERNELS) && $(MAKE) --no-print-directory _test-vm-once; }

_test-vm-once: VMS := 1
_test-vm-once: vm-image
	$(ON_VMS) go test -count=1 -timeout 40m -parallel 2 $(TESTFLAGS) ./tests/e2e -run '$(VM_TESTS_CI)'

.PHONY: bench chaos fidelity scale
bench: bin/localcluster prerequisites ## measure capture and restore against runc and kubelet: a table, and build/bench.jsonl
	go run ./tests/bench
chaos: bin/localcluster prerequisites ## end pods while all kinds of things break, and look whether anything is lost (MINUTES=10 SEED=1 PODS=2 ONLY=regexp)
	go run ./tests/chaos --minutes $(or $(MINUTES),10) --seed $(or $(SEED),1) --pods $(or $(PODS),2) --only '$(ONLY)'
scale: bin/localcluster prerequisites ## fill the API with labelled pods and Checkpoints, and print what it costs (PODS=10000 CHECKPOINTS=30000)
	go run ./tests/scale --pods $(or $(PODS),10000) --checkpoints $(or $(CHECKPOINTS),30000)
fidelity: bin/localcluster prerequisites ## find out which programs survive: a table, build/fidelity.jsonl, and the one in docs/compatibility.md (ONLY=regexp)
	go run ./tests/fidelity --only '$(ONLY)' $(if $(ONLY),,--document docs/compatibility.md)

.PHONY: lint vulncheck cross
lint: $(LINTER) ## check the style and who imports whom
	@for module in . tests/chart tests/monitoring; do (cd $$module && $(LINTER) run --allow-serial-runners ./...) || exit 1; done

# Tools whose versions modules of their own have: which module, and what is built of it.
$(LINTER): TOOL := lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(REFERENCE): TOOL := reference github.com/elastic/crd-ref-docs
$(HELM): TOOL := chart helm.sh/helm/v4/cmd/helm
$(RERUN): TOOL := rerun gotest.tools/gotestsum
$(LINTER) $(REFERENCE) $(HELM) $(RERUN):
	@mkdir -p $(dir $@) && echo "building $(notdir $(lastword $(TOOL))) (about 1 minute) …" >&2
	@cd tests/$(firstword $(TOOL)) && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ $(lastword $(TOOL))

vulncheck: $(VULNCHECK) ## look for known vulnerabilities in what we call, where the database of them can be reached (GOVULNDB=URL)
	@$(VULNCHECK) ./...

$(VULNCHECK):
	@mkdir -p $(dir $@)
	@cd tests/vulncheck && go test -count=1 . && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $@ .

cross: ## compile and vet for arm64 what goes into the images
	@mkdir -p build/cross && CGO_ENABLED=0 GOARCH=arm64 go build -trimpath -o build/cross/ ./cmd/...
	CGO_ENABLED=0 GOARCH=arm64 go vet -trimpath ./cmd/... ./node/... # the others have nothing of a processor in them

##@ Generated code, by tools of the versions in go.mod

API := github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1
GENERATED := github.com/transparent-checkpoint/operator/generated
CONTROLLER_GEN := go run sigs.k8s.io/controller-tools/cmd/controller-gen
CODEGEN := go run k8s.io/code-generator/cmd
DERIVED := find generated manifests/crd/bases manifests/chart manifests/monitoring/prometheusrule.yaml apis docs/reference.md -type f \( -not -path 'apis/*' -o -name 'zz_generated.*' \) | LC_ALL=C sort | xargs sha256sum

# The tools write beside, and the result takes its place only when all of them succeeded. What no type stands behind any more goes with that.
.PHONY: generate manifests
generate: $(REFERENCE) ## write what comes from the API types: deepcopy functions, clients, informers, listers, apply configurations, docs/reference.md
	@rm -rf build/_generated
	$(CONTROLLER_GEN) object paths=./apis/...
	$(CODEGEN)/applyconfiguration-gen --output-dir build/_generated/applyconfiguration --output-pkg $(GENERATED)/applyconfiguration $(API)
	$(CODEGEN)/client-gen --clientset-name versioned --input-base '' --input $(API) \
	  --apply-configuration-package $(GENERATED)/applyconfiguration --output-dir build/_generated/clientset --output-pkg $(GENERATED)/clientset
	$(CODEGEN)/lister-gen --output-dir build/_generated/listers --output-pkg $(GENERATED)/listers $(API)
	$(CODEGEN)/informer-gen --versioned-clientset-package $(GENERATED)/clientset/versioned --listers-package $(GENERATED)/listers \
	  --output-dir build/_generated/informers --output-pkg $(GENERATED)/informers $(API)
	$(REFERENCE) --log-level=ERROR --source-path=apis --config=tests/reference/config.yaml --templates-dir=tests/reference/templates \
	  --renderer=markdown --output-path=build/_reference.md
	go run ./tests/docs/signals >> build/_reference.md
	@rm -rf generated && mv build/_generated generated && mv build/_reference.md docs/reference.md

manifests: ## write what comes from markers in the code, the CustomResourceDefinitions, and of all manifests the Helm chart
	rm -rf build/_crd && $(CONTROLLER_GEN) crd paths=./apis/... output:crd:dir=build/_crd
	@mkdir -p manifests/crd && rm -rf manifests/crd/bases && mv build/_crd manifests/crd/bases
	cd tests/chart && go run .
	@cd manifests/monitoring && { sed '/^spec:/q' prometheusrule.yaml; sed '/^#/d; s/^\(.\)/  \1/' rules.yaml; } > ../_rule && mv ../_rule prometheusrule.yaml

.PHONY: verify
verify: lint cross vulncheck ## check that what is derived fits what it comes from: go.mod files, generated code, formatting, paths that the documentation names
	@for module in . tests/chart tests/checkpointctl tests/lint tests/monitoring tests/reference tests/rerun tests/vulncheck $(wildcard tests/cluster/parts/*/go.mod); do \
	  dir=$${module%/go.mod}; (cd $$dir && go mod tidy -diff) || { echo "go.mod or go.sum of $$dir is not tidy"; exit 1; }; done
	@was="$$($(DERIVED))"; $(MAKE) -s generate manifests || exit 1; diff <(echo "$$was") <($(DERIVED)) || \
	  { echo "these files did not fit what they are made of (make generate manifests); they have been written anew"; exit 1; }
	@new="$$(git ls-files --others --exclude-standard docs/reference.md generated manifests/crd/bases manifests/chart 'apis/**/zz_generated.*')"; test -z "$$new" || \
	  { echo "generated, and not in git:"; echo "$$new"; exit 1; }
	go test -count=1 ./tests/docs

.PHONY: clean clean-cache
clean: ## remove what was built in the tree
	rm -rf bin build

clean-cache: ## remove the built parts of the cluster, Debian's packages and the linter (Go's own caches: `go clean -cache -modcache`)
	rm -rf $(CACHE)
