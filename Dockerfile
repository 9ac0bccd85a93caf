# The images of operator and reporter: one static binary each on an empty filesystem.
#
#   docker build --target operator --tag node-readiness/operator:v0.1.0 .
#   docker build --target reporter --tag node-readiness/reporter:v0.1.0 .
#
# `cargo xtask images` builds the same images without Docker, with the same flags, target, profile and lock
# file. The tests run those. Cache mounts need BuildKit, Docker's default since version 23.

FROM rust:1.95-bookworm AS build
WORKDIR /src
# .dockerignore excludes rust-toolchain.toml: this image has the toolchain, and the file would make rustup fetch
# another one with tools that a build does not use.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
# cargo gives the packages of one build the features that any of them needs. Every node runs the reporter, so it is built
# by itself. With a named target, RUSTFLAGS do not apply to build scripts and procedural macros, which cannot be static.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    set -eu; \
    target="$(uname -m)-unknown-linux-gnu"; \
    mkdir /out; \
    for program in node-readiness-operator node-readiness-reporter; do \
      RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --target "$target" \
        --package "$program" --bin "$program"; \
      cp "target/$target/release/$program" /out/; \
    done

FROM scratch AS operator
COPY --from=build /out/node-readiness-operator /node-readiness-operator
# A number, so that kubelet can check that it is not root. It needs no entry in a passwd file.
USER 65532:65532
ENTRYPOINT ["/node-readiness-operator"]

FROM scratch AS reporter
COPY --from=build /out/node-readiness-reporter /node-readiness-reporter
USER 65532:65532
ENTRYPOINT ["/node-readiness-reporter"]
