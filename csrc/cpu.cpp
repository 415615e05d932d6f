#include "cpu.h"

#if defined(__linux__)
#include <unistd.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define FASTRNN_X86 1
#include <cstdint>
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__linux__)
#include <sys/auxv.h>
#elif defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

namespace fastrnn {

#if defined(FASTRNN_X86)
namespace {

struct Registers {
    std::uint32_t eax, ebx, ecx, edx;
};

// Zeros where the processor does not know the leaf.
Registers cpuid(std::uint32_t leaf, std::uint32_t part = 0) noexcept {
    Registers r{};
#if defined(_MSC_VER)
    int values[4];
    __cpuid(values, 0);
    if (static_cast<std::uint32_t>(values[0]) < leaf) return r;
    __cpuidex(values, static_cast<int>(leaf), static_cast<int>(part));
    r = {static_cast<std::uint32_t>(values[0]), static_cast<std::uint32_t>(values[1]),
         static_cast<std::uint32_t>(values[2]), static_cast<std::uint32_t>(values[3])};
#else
    __get_cpuid_count(leaf, part, &r.eax, &r.ebx, &r.ecx, &r.edx);
#endif
    return r;
}

// XCR0: the register files that the operating system saves and restores. Only to be called where it says that it does.
std::uint64_t xcr0() noexcept {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    // The intrinsic would need -mxsave on this file.
    std::uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return std::uint64_t{high} << 32 | low;
#endif
}

constexpr bool has(std::uint64_t set, std::uint64_t wanted) { return (set & wanted) == wanted; }
constexpr std::uint32_t bit(int n) { return 1u << n; }

constexpr std::uint32_t kFma = bit(12), kOsxsave = bit(27), kAvx = bit(28);  // leaf 1, ecx
constexpr std::uint32_t kAvx2 = bit(5);                                      // leaf 7, ebx
constexpr std::uint32_t kAvx512 = bit(16) | bit(17) | bit(30) | bit(31);     // leaf 7, ebx: F, DQ, BW, VL
constexpr std::uint32_t kAvx512Vnni = bit(11);                               // leaf 7, ecx
constexpr std::uint32_t kAvxVnni = bit(4), kAvx512Bf16 = bit(5);             // leaf 7, part 1, eax
constexpr std::uint64_t kYmm = 0x06, kZmm = 0xe6;  // XCR0: xmm, ymm; masks, zmm 0-15, zmm 16-31

bool supports(std::uint32_t leaf_7, std::uint64_t registers) noexcept {
    return has(cpuid(1).ecx, kOsxsave | kAvx | kFma) && has(xcr0(), registers) && has(cpuid(7).ebx, leaf_7);
}

}  // namespace

bool cpu_supports_avx2() noexcept { return supports(kAvx2, kYmm); }
bool cpu_supports_avx512() noexcept { return supports(kAvx2 | kAvx512, kZmm); }

bool cpu_has_dots_avx512_bfloat16() noexcept { return has(cpuid(7, 1).eax, kAvx512Bf16); }
bool cpu_has_dots_avx512_int8() noexcept { return has(cpuid(7).ecx, kAvx512Vnni); }
bool cpu_has_dots_avx2_int8() noexcept { return has(cpuid(7, 1).eax, kAvxVnni); }

// The systems' names for FEAT_BF16 and FEAT_DotProd, by number where headers may be too old to have them.
#elif defined(__linux__)
bool cpu_has_dots_neon_bfloat16() noexcept { return getauxval(AT_HWCAP2) >> 14 & 1; }  // HWCAP2_BF16
bool cpu_has_dots_neon_int8() noexcept { return getauxval(AT_HWCAP) >> 20 & 1; }       // HWCAP_ASIMDDP
#elif defined(__APPLE__)
namespace {

bool has_feature(const char* name) noexcept {
    int value = 0;
    std::size_t length = sizeof value;
    return sysctlbyname(name, &value, &length, nullptr, 0) == 0 && value != 0;
}

}  // namespace

bool cpu_has_dots_neon_bfloat16() noexcept { return has_feature("hw.optional.arm.FEAT_BF16"); }
bool cpu_has_dots_neon_int8() noexcept { return has_feature("hw.optional.arm.FEAT_DotProd"); }
#elif defined(_WIN32)
bool cpu_has_dots_neon_bfloat16() noexcept { return IsProcessorFeaturePresent(68); }  // PF_ARM_V86_BF16_...
bool cpu_has_dots_neon_int8() noexcept { return IsProcessorFeaturePresent(43); }      // PF_ARM_V82_DP_...
#else
bool cpu_has_dots_neon_bfloat16() noexcept { return false; }
bool cpu_has_dots_neon_int8() noexcept { return false; }
#endif

// Part of the architecture.
bool cpu_supports_baseline() noexcept { return true; }
bool cpu_supports_neon() noexcept { return true; }

namespace {

std::size_t find_private_cache() noexcept {
#if defined(_SC_LEVEL2_CACHE_SIZE)
    const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (bytes > 0) return static_cast<std::size_t>(bytes);
#elif defined(__APPLE__)
    std::size_t bytes = 0, length = sizeof bytes;
    if (sysctlbyname("hw.l2cachesize", &bytes, &length, nullptr, 0) == 0 && bytes > 0) return bytes;
#endif
    return std::size_t{1} << 20;
}

}  // namespace

std::size_t private_cache_bytes() noexcept {
    static const std::size_t bytes = find_private_cache();
    return bytes;
}

}  // namespace fastrnn
