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

#   fastrnn_dots(<name> <weight format> <more flags for GCC and Clang> <header> <a function that uses the instruction>)
#
# Processors of an instruction set may have an instruction for products of a weight format or not: csrc/product/<format>.cpp
# is then compiled once more, with FASTRNN_DOT_<FORMAT>, and taken where cpu_has_dots_<name>_<format>() says so. What the
# compiler does not know yet is left out.
include(CheckCXXSourceCompiles)
function(fastrnn_dots name format gnu header use)
    if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "MSVC")
        set(CMAKE_REQUIRED_FLAGS "${gnu}")
    endif()
    set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
    check_cxx_source_compiles("#include <${header}>\n${use}" FASTRNN_KNOWS_${name}_${format})
    if(FASTRNN_KNOWS_${name}_${format})
        set(FASTRNN_DOTS_${name} ${FASTRNN_DOTS_${name}} ${format} PARENT_SCOPE)
        set(FASTRNN_DOT_FLAGS_${name}_${format} "${CMAKE_REQUIRED_FLAGS}" PARENT_SCOPE)
    endif()
endfunction()

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
    fastrnn_dots(avx512 bfloat16 "-mavx512bf16" immintrin.h
        "__m512 add(__m512 sum, __m512bh a) { return _mm512_dpbf16_ps(sum, a, a); }")
    fastrnn_dots(avx512 int8 "-mavx512vnni" immintrin.h
        "__m512i add(__m512i sum, __m512i a) { return _mm512_dpbusd_epi32(sum, a, a); }")
    fastrnn_isa(avx2 "-mavx2;-mfma" "/arch:AVX2")
    fastrnn_dots(avx2 int8 "-mavxvnni" immintrin.h
        "__m256i add(__m256i sum, __m256i a) { return _mm256_dpbusd_avx_epi32(sum, a, a); }")
    fastrnn_isa(baseline "" "")
elseif(fastrnn_processor MATCHES "^(aarch64|arm64|ARM64)$")
    fastrnn_isa(neon "" "")
    fastrnn_dots(neon bfloat16 "-march=armv8.2-a+bf16" arm_neon.h
        "float32x4_t add(float32x4_t sum, bfloat16x8_t a) { return vbfdotq_f32(sum, a, a); }")
    fastrnn_dots(neon int8 "-march=armv8.2-a+dotprod" arm_neon.h
        "int32x4_t add(int32x4_t sum, int8x16_t a) { return vdotq_s32(sum, a, a); }")
else()
    message(FATAL_ERROR "fastrnn has kernels for x86-64 and 64-bit Arm, one at a time, not for '${fastrnn_processor}'")
endif()
