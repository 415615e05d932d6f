// The floating-point mode that kernels run in.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#elif defined(_MSC_VER)
#include <intrin.h>
#endif

namespace fastrnn {

#if defined(__x86_64__) || defined(_M_X64)
// Flush to zero, denormals are zero, all exceptions masked, round to nearest.
inline constexpr std::uint64_t kKernelMode = 0x8000 | 0x0040 | 0x1f80;
inline std::uint64_t read_float_mode() noexcept { return _mm_getcsr(); }
inline void write_float_mode(std::uint64_t mode) noexcept { _mm_setcsr(static_cast<unsigned>(mode)); }
// The bits that note which exceptions have happened.
inline constexpr std::uint64_t kFloatFlags = 0x003f;
#else
// FPCR: flush to zero, no traps, round to nearest.
inline constexpr std::uint64_t kKernelMode = std::uint64_t{1} << 24;
inline constexpr std::uint64_t kFloatFlags = 0;  // they are in another register
#if defined(_MSC_VER)
inline std::uint64_t read_float_mode() noexcept {
    return static_cast<std::uint64_t>(_ReadStatusReg(ARM64_SYSREG(3, 3, 4, 4, 0)));
}
inline void write_float_mode(std::uint64_t mode) noexcept {
    _WriteStatusReg(ARM64_SYSREG(3, 3, 4, 4, 0), static_cast<__int64>(mode));
}
#else
inline std::uint64_t read_float_mode() noexcept {
    std::uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
}
inline void write_float_mode(std::uint64_t mode) noexcept { __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#endif
#endif

// While one lives, its thread computes in that mode; then the mode before is back, with the flags of exceptions that
// had been raised.
class FloatMode {
public:
    explicit FloatMode(std::uint64_t mode) noexcept : before_(read_float_mode()) { write_float_mode(mode); }
    ~FloatMode() { write_float_mode(before_); }
    FloatMode(const FloatMode&) = delete;
    FloatMode& operator=(const FloatMode&) = delete;

private:
    const std::uint64_t before_;
};

// The mode of kernels, whatever the caller's is: denormals, which cost a hundred times as much as other numbers, are
// zeros, and results do not depend on the thread.
class KernelFloatMode : public FloatMode {
public:
    KernelFloatMode() noexcept : FloatMode(kKernelMode) {}
};

}  // namespace fastrnn
