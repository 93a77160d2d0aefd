# What a distribution may set: VERSION, PREFIX, DESTDIR, GOFLAGS, LDFLAGS.
VERSION   ?=
PREFIX    ?= /usr/local
DESTDIR   ?=
GO        ?= go
BUILDFLAGS = -trimpath -buildvcs=false
LDFLAGS   ?= -s -w
ifneq ($(VERSION),)
LDFLAGS   += -X openclaw/gateway.version=$(VERSION)
endif
export CGO_ENABLED ?= 0

.PHONY: all build run test check cross lint e2e fuzz bench cover update install clean

all: build

build: bin/openclaw

.PHONY: bin/openclaw
bin/openclaw:
	$(GO) build $(BUILDFLAGS) -ldflags '$(LDFLAGS)' -o $@ .

# A dev gateway on the built-in model; prints where it listens and what to try.
run: build
	@bin/openclaw gateway --dev

# Everything that needs no network and no tool but Go. The race detector needs cgo and a C compiler.
test: build
	$(GO) vet ./... ./testdata/bench/...
	CGO_ENABLED=$(RACE_CGO) $(GO) test $(RACE) -timeout $(TIMEOUT) ./...

# For one package, on a slow machine that has more to do.
TIMEOUT ?= 40m

# -race where a C compiler is found, plain otherwise, so that a machine with nothing but Go passes too.
RACE     := $(if $(shell command -v gcc cc 2>/dev/null),-race)
RACE_CGO := $(if $(RACE),1,0)

# What a commit must pass: the tests (formatting among them) and the builds for other systems.
check: test cross

TARGETS = linux/amd64 linux/arm64 linux/arm linux/riscv64 darwin/amd64 darwin/arm64 freebsd/amd64
cross:
	@for t in $(TARGETS); do echo "vet $$t"; \
	  CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) vet ./... || exit 1; \
	  CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build $(BUILDFLAGS) -o /dev/null . || exit 1; done

# End-to-end suites: installs what they need by pinned version, then runs them against the built binary.
e2e: build cross
	testdata/e2e/run

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

# The figures of the README: this gateway beside bare servers on the same library, in one run.
bench: build
	$(GO) run ./testdata/bench $(BENCH)
	$(GO) test -run '^$$' -bench LogFlood -benchtime 15x ./gateway
	$(GO) test -run '^$$' -bench Exec -benchtime 300x ./gateway/tool/sandbox

cover:
	$(GO) test -coverprofile cover.out -coverpkg ./... ./...
	$(GO) tool cover -func cover.out | tail -1

# Refreshes the golden files and the generated parts of the READMEs.
update:
	$(GO) test . ./svc/unit ./reload/config -update

install: build
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 0755 bin/openclaw '$(DESTDIR)$(PREFIX)/bin/openclaw'

clean:
	rm -rf bin dist cover.out
