// Which instruction sets the processor has and the operating system keeps the registers of.
//
// One function for each name in cmake/isa.cmake that this processor family knows. They run before any code compiled for
// that instruction set does.
#pragma once

namespace fastrnn {

bool cpu_supports_baseline() noexcept;
bool cpu_supports_avx2() noexcept;
bool cpu_supports_avx512() noexcept;
bool cpu_supports_neon() noexcept;

}  // namespace fastrnn
