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

// Bytes of the last cache that a core has for itself, usually L2; 1 MiB where the system does not tell.
std::size_t private_cache_bytes() noexcept;

}  // namespace fastrnn
