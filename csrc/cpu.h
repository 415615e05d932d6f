// What the processor is: its instruction sets, as far as the operating system keeps their registers, and its cache.
//
// One function for each name in cmake/isa.cmake that this processor family knows. They run before any code compiled for
// that instruction set does.
#pragma once

#include <cstddef>

namespace fastrnn {

bool cpu_supports_baseline() noexcept;
bool cpu_supports_avx2() noexcept;
bool cpu_supports_avx512() noexcept;
bool cpu_supports_neon() noexcept;

// Likewise for each line of fastrnn_dots() there, on a processor that has the instruction set.
bool cpu_has_dots_avx512_bfloat16() noexcept;
bool cpu_has_dots_avx512_int8() noexcept;
bool cpu_has_dots_avx2_int8() noexcept;
bool cpu_has_dots_neon_bfloat16() noexcept;
bool cpu_has_dots_neon_int8() noexcept;

// Bytes of the last cache that a core has for itself, usually L2; 1 MiB where the system does not tell.
std::size_t private_cache_bytes() noexcept;

}  // namespace fastrnn
