# Cross-compiling for 64-bit ARM (Debian's g++-aarch64-linux-gnu); linked statically, so that the
# programs run under qemu-aarch64, or on a board, with nothing beside them.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
