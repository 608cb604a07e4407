# Sourced in the repository's folder. Panics name their source; where that lay on this machine is nobody's business, and would
# make other bytes elsewhere.
RUSTFLAGS="--remap-path-prefix=$PWD=/shiftgate"
RUSTFLAGS+=" --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
RUSTFLAGS+=" --remap-path-prefix=$(rustc --print sysroot)=/rust"
export RUSTFLAGS
