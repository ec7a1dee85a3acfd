# FastFace grid harness. `make help` lists the targets.
#
#   make                 the four programs into build/bin/
#   make SANITIZE=1      with ASan + UBSan, into build/asan/
#   make CC=clang B=dir  another compiler, another build folder
.DEFAULT_GOAL := all
SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules

CC ?= gcc
SANITIZE ?= 0
FUZZ ?= 0
WERROR ?= 0
DEBUG ?= 0
V ?= 0
PREFIX ?= /usr/local
B ?= build
ifeq ($(SANITIZE),1)
override B := $(B)/asan
endif
ifeq ($(FUZZ),1)
override B := $(B)/fuzz
endif

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2))

# The packages, as Debian 12 and Ubuntu 24.04 name them.
BUILD_PACKAGES := gcc make pkg-config libyaml-dev libhdf5-dev libturbojpeg0-dev libpng-dev \
	libdnnl-dev libcairo2-dev libmd-dev fonts-dejavu-core libcjson-dev libonnx-dev \
	libprotobuf-c-dev protobuf-c-compiler
TEST_PACKAGES := libcriterion-dev hdf5-tools procps

PKGS := yaml-0.1 hdf5 libturbojpeg libpng cairo freetype2 libmd libcjson libprotobuf-c
# Asked for only when something is built: a bare machine has no pkg-config yet.
ifneq ($(filter-out deps deps-test help clean demo test,$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS := $(shell pkg-config --libs $(filter-out hdf5,$(PKGS)) 2>/dev/null) \
	$(shell pkg-config --libs-only-L hdf5 2>/dev/null) -lhdf5_hl -lhdf5
endif

# -Wshadow, -Wstrict-prototypes: mistakes that compile; -Wvla: stack use must be known.
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wpointer-arith -Wformat=2 -Wno-format-nonliteral
ifeq ($(WERROR),1)
WARN += -Werror
endif
# -ffp-contract=off: the same source gives the same bits under gcc and clang.
OPT := $(if $(filter 1,$(DEBUG)),-O0,-O2) -g -ffp-contract=off
ARCH ?= -march=x86-64-v2
ifeq ($(SANITIZE),1)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
endif
ifeq ($(FUZZ),1)
OPT := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
endif
# The commit that programs record; rewritten, and with it cli.o, only when it is another.
GIT_COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo unknown)
CPPFLAGS += -D_GNU_SOURCE -iquote common -iquote trainer -iquote trainer/data -iquote eval -iquote harness -iquote $(B)/gen $(PKG_CFLAGS)
CFLAGS += -std=c11 $(OPT) $(WARN) -fopenmp -pthread
LDLIBS += $(PKG_LIBS) -ldnnl -ldl -lm

src = $(wildcard $(1)/*.c)
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
COMMON := $(call src,common)
DATA := $(filter-out trainer/data/ff_data.c,$(call src,trainer/data))
TRAINER := $(filter-out trainer/ff_train.c,$(call src,trainer)) $(call src,trainer/ref) \
	$(call src,trainer/onednn)
EVAL := $(filter-out eval/ff_eval.c,$(call src,eval))
HARNESS := $(filter-out harness/ff_grid.c,$(call src,harness))

PROGRAMS := $(addprefix $(B)/bin/,ff-grid ff-train ff-eval ff-data)
all: $(PROGRAMS) ## the four programs into build/bin/
	@echo "built for the CPU (oneDNN); this version has no CUDA backend yet"

# onednn_rows.c once for each instruction set; chosen at run time.
ROWS := $(B)/obj/trainer/onednn/onednn_rows.o
ifeq ($(shell uname -m),x86_64)
ROWS += $(B)/obj/trainer/onednn/onednn_rows_v3.o $(B)/obj/trainer/onednn/onednn_rows_v4.o
endif
$(B)/obj/trainer/onednn/onednn_rows%.o: trainer/onednn/onednn_rows.c
	$(call say,CC,"$< $*")
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(if $(filter 0,$(SANITIZE)),-O3) -march=x86-64$(subst _,-,$*) \
		-DFF_ROWS=onednn_rows$* -MMD -MP -c -o $@ $<
$(B)/obj/trainer/onednn/onednn_rows.o: trainer/onednn/onednn_rows.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(if $(filter 0,$(SANITIZE)),-O3) $(ARCH) -MMD -MP -c -o $@ $<

# ONNX's schema, compiled; generated code keeps its own warnings.
ONNX_PROTO ?= /usr/include/onnx/onnx.proto
$(B)/gen/onnx.pb-c.c: $(ONNX_PROTO)
	$(call say,GEN,$@)
	@mkdir -p $(@D)
	$(Q)protoc-c -I $(<D) --c_out=$(@D) $<
$(B)/obj/onnx.pb-c.o: $(B)/gen/onnx.pb-c.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -w $(ARCH) -c -o $@ $<
$(B)/obj/trainer/onnx_file.o $(B)/obj/tests/unit/test_onnx_file.o: $(B)/gen/onnx.pb-c.c

$(B)/libffcommon.a: $(call obj,$(COMMON))
$(B)/libffdata.a: $(call obj,$(DATA))
$(B)/libfftrainer.a: $(sort $(call obj,$(TRAINER)) $(ROWS)) $(B)/obj/onnx.pb-c.o
$(B)/libffeval.a: $(call obj,$(EVAL))
$(B)/libffharness.a: $(call obj,$(HARNESS))
$(B)/libff%.a:
	$(call say,AR,$@)
	@mkdir -p $(@D); rm -f $@
	$(Q)ar rcs $@ $^

$(B)/bin/ff-grid: $(call obj,harness/ff_grid.c) $(B)/libffharness.a $(B)/libffcommon.a
$(B)/bin/ff-train: $(call obj,trainer/ff_train.c) $(B)/libfftrainer.a $(B)/libffdata.a $(B)/libffcommon.a
$(B)/bin/ff-eval: $(call obj,eval/ff_eval.c) $(B)/libffeval.a $(B)/libfftrainer.a $(B)/libffdata.a $(B)/libffcommon.a
$(B)/bin/ff-data: $(call obj,trainer/data/ff_data.c) $(B)/libffdata.a $(B)/libffcommon.a
$(B)/bin/%:
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(ARCH) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/obj/common/cli.o: CPPFLAGS += -DFF_GIT_COMMIT='"$(GIT_COMMIT)"'
$(B)/obj/common/cli.o: $(B)/obj/git_commit
$(B)/obj/git_commit: FORCE
	@mkdir -p $(@D)
	@echo $(GIT_COMMIT) | cmp -s - $@ || echo $(GIT_COMMIT) > $@
FORCE:
$(B)/obj/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(ARCH) -MMD -MP -c -o $@ $<

# One program a test file, linked with every library; oneDNN objects included.
TEST_SRC := $(call src,tests/unit) $(call src,tests/ops)
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SRC))
ALL_LIBS := $(foreach l,harness eval trainer data common,$(B)/libff$(l).a)
$(B)/tests/%: $(B)/obj/tests/%.o $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcriterion $(LDLIBS)

BENCHES := $(patsubst tests/%.c,$(B)/tests/%,$(call src,tests/bench))
$(B)/tests/bench/%: $(B)/obj/tests/bench/%.o $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# A fuzz target with a main that replays files; with FUZZ=1 with libFuzzer's.
REPLAYS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(B)/tests/fuzz/%: $(B)/obj/tests/fuzz/%.o $(B)/obj/tests/fuzz/replay_main.o $(ALL_LIBS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(ALL_LIBS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)
fuzzers: $(FUZZERS)

tests-build: $(PROGRAMS) $(TESTS) $(REPLAYS)

deps: ## installs what is missing (prints it; sudo only if not root)
	@bash tests/tools/install_packages.sh $(BUILD_PACKAGES)
deps-test: ## the same, with what the tests need
	@bash tests/tools/install_packages.sh $(BUILD_PACKAGES) $(TEST_PACKAGES)

DEMO := results/demo-faces
demo: deps ## a whole sweep on synthetic faces on the CPU: 3 x 3 cells, a few minutes
	@$(MAKE) --no-print-directory all
	$(B)/bin/ff-data synth --out $(DEMO) $(shell sed -n 's/^# synth: //p' grids/demo.yaml)
	$(B)/bin/ff-grid grids/demo.yaml

test: deps-test ## every test: check, then whole sweeps through the real programs
	@$(MAKE) --no-print-directory tests-build
	@bash tests/run.sh $(B) unit ops cli fuzz pipeline

check: tests-build ## unit, op and command-line tests and the fuzz corpus alone
	@bash tests/run.sh $(B) unit ops cli fuzz

fuzz: ## the fuzz targets into build/fuzz/ (clang, libFuzzer, sanitizers); see tests/fuzz/README.md
	@$(MAKE) --no-print-directory CC=clang FUZZ=1 fuzzers

bench: all $(BENCHES) ## training step against PyTorch, scheduler cost (needs python3-torch)
	@bash tests/bench/run.sh $(B)

bench-loader: $(B)/tests/bench/bench_loader ## images a second of the loader, one worker
	@$< $(B)/bench-faces

bench-shuffle: $(B)/tests/bench/bench_loader $(B)/tests/bench/bench_shuffle ## DIR=folder: a set that is not in memory, with and without shuffle_block
	@test -e $(B)/bench-faces/train.rec || $< $(B)/bench-faces >/dev/null
	@$(B)/tests/bench/bench_shuffle $(B)/bench-faces "$(DIR)"

bench-ijb: all $(B)/tests/bench/make_ijb_problem ## DIR=folder: IJB-C's size from stored features, against Python
	@bash tests/bench/ijb.sh "$(DIR)" "$(B)"

lfw-reference: all $(B)/tests/bench/lfw_reference ## DATA=dir: ff-eval against reference scores in IJB-C format
	@bash tests/bench/lfw_reference.sh "$(DATA)" "$(B)"

install: all ## into $(DESTDIR)$(PREFIX): the four programs, the grids, the README
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/fastface/grids
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 grids/*.yaml $(DESTDIR)$(PREFIX)/share/fastface/grids
	install -m 644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/fastface

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@echo; echo "Switches: CC=clang  B=build-folder  DEBUG=1  SANITIZE=1  WERROR=1  V=1  PREFIX=  DESTDIR="

clean: ## removes the build folder
	rm -rf $(B)

.PHONY: FORCE all tests-build fuzz fuzzers deps deps-test demo test check bench bench-loader bench-shuffle bench-ijb lfw-reference install help clean
.SECONDARY:
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
