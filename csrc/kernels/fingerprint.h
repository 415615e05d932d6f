// What tells whether memory holds the same as before, about as fast as it can be read.
#pragma once

#include "pack.h"

namespace fastrnn::FASTRNN_ISA {
namespace {

// Each lane goes on from word to word of its own, by a mapping that is one-to-one in the lane for every word and in the
// word for every lane. So a change of one word alone always shows at the end, whatever the others are: there is no lane
// from which on words count nothing. Changes of several words go unseen only if they undo each other, one in 2^64.
void fingerprint(const void* data, std::size_t bytes, std::uint64_t* lanes) {
    constexpr int count = kFingerprintLanes / Bits::kLanes;
    constexpr std::size_t stripe = kFingerprintLanes * sizeof(std::uint64_t);
    const Bits golden = Bits::broadcast(0x9e3779b97f4a7c15u);  // 2^64 divided by the golden ratio
    Bits lane[count];
    for (int i = 0; i < count; ++i) lane[i] = Bits::load(lanes + i * Bits::kLanes);
    const auto take = [&](const char* from) {
        for (int i = 0; i < count; ++i) {
            const Bits mixed = lane[i] ^ Bits::load(from + i * static_cast<int>(sizeof(Bits)));
            const Bits spread = mixed + mixed.left<21>() + golden;
            lane[i] = spread ^ spread.right<29>();
        }
    };
    const char* at = static_cast<const char*>(data);
    std::size_t left = bytes;
    for (; left >= stripe; left -= stripe, at += stripe) take(at);
    if (left > 0) {
        char rest[stripe] = {};
        std::memcpy(rest, at, left);
        take(rest);
    }
    for (int i = 0; i < count; ++i) lane[i].store(lanes + i * Bits::kLanes);
}

}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
