# THE list of instruction sets, best first: one line here is one compilation of csrc/kernels, csrc/product and csrc/cells.
#
#   fastrnn_isa(<name> <flags for GCC and Clang> <flags for MSVC>)
#
# A name is also a namespace, the N of csrc/kernels/vec_N.h and of cpu_supports_N() in csrc/cpu.h, what FASTRNN_ISA and
# fastrnn.isa() call it, and an id in the tests.

set(FASTRNN_ISAS)
macro(fastrnn_isa name gnu msvc)
    list(APPEND FASTRNN_ISAS ${name})
    if(MSVC)
        set(FASTRNN_FLAGS_${name} ${msvc})
    else()
        set(FASTRNN_FLAGS_${name} ${gnu})
    endif()
endmacro()

#   fastrnn_dots(<name> <weight format> <more flags for GCC and Clang>)
#
# Processors of an instruction set may have an instruction for products of a weight format or not: csrc/product/<format>.cpp
# is then compiled once more, with FASTRNN_DOT_<FORMAT>, and taken where cpu_has_dots_<name>_<format>() says so.
macro(fastrnn_dots name format gnu)
    list(APPEND FASTRNN_DOTS_${name} ${format})
    set(FASTRNN_DOT_FLAGS_${name}_${format} "$<$<NOT:$<CXX_COMPILER_ID:MSVC>>:${gnu}>")
endmacro()

if(CMAKE_OSX_ARCHITECTURES)
    set(fastrnn_processor "${CMAKE_OSX_ARCHITECTURES}")
elseif(MSVC_CXX_ARCHITECTURE_ID)
    set(fastrnn_processor "${MSVC_CXX_ARCHITECTURE_ID}")
else()
    set(fastrnn_processor "${CMAKE_SYSTEM_PROCESSOR}")
endif()

if(fastrnn_processor MATCHES "^(x86_64|AMD64|amd64|x64)$")
    # Without -mprefer-vector-width what GCC and Clang make of plain loops stays at 256 bits.
    fastrnn_isa(avx512 "-mavx512f;-mavx512dq;-mavx512bw;-mavx512vl;-mfma;-mprefer-vector-width=512" "/arch:AVX512")
    fastrnn_dots(avx512 bfloat16 "-mavx512bf16")
    fastrnn_dots(avx512 int8 "-mavx512vnni")
    fastrnn_isa(avx2 "-mavx2;-mfma" "/arch:AVX2")
    fastrnn_isa(baseline "" "")
elseif(fastrnn_processor MATCHES "^(aarch64|arm64|ARM64)$")
    fastrnn_isa(neon "" "")
else()
    message(FATAL_ERROR "fastrnn has kernels for x86-64 and 64-bit Arm, one at a time, not for '${fastrnn_processor}'")
endif()
