// Weights of eight bits: integers, and for each row of W a scale that they are multiples of. A row that they are
// multiplied with is made ready step by step, its largest magnitude 127 times its scale. Products are added up as
// integers, exactly.
//
// Where there is an instruction that multiplies bytes, it may take those of weights as numbers without sign: then 128
// is added to them, and 128 times the sum of the row taken away again. Where there is none, bytes are kept as 16 bits
// each.
#pragma once

#include "../kernels/parts.h"
#include "words.h"

namespace fastrnn::FASTRNN_ISA {
namespace {
namespace int8 {

struct Format {
#ifdef FASTRNN_DOT_INT8
    static constexpr int kOfWord = 4;
    using Byte = std::int8_t;  // of a row that is ready
    static constexpr std::uint32_t kOffset = Vec<float>::kInt8Offset;
#else
    static constexpr int kOfWord = 2;
    using Byte = std::int16_t;
    static constexpr std::uint32_t kOffset = 0;
#endif
    static constexpr bool kScaled = true;
    static constexpr std::uint32_t kBits = kOfWord == 4 ? 0xff : 0xffff;

    struct Product {
#ifdef FASTRNN_DOT_INT8
        static constexpr int kUnrolled = 2;
        static Vec<float> add(Vec<float> x, Vec<float> w, Vec<float> sum) { return add_products_int8(x, w, sum); }
#else
        static constexpr int kUnrolled = 1;
        static Vec<float> add(Vec<float> x, Vec<float> w, Vec<float> sum) { return add_products_int16(x, w, sum); }
#endif
    };
    using Vector = WordsOf<Product>;

    using Number = std::int8_t;
    static std::uint32_t word(const Number* row, Index n) {
        std::uint32_t bits = 0;
        for (int i = 0; i < kOfWord; ++i) {
            const int q = i < n ? row[i] : 0;
            bits |= ((static_cast<std::uint32_t>(q) + kOffset) & kBits) << (i * (32 / kOfWord));
        }
        return bits;
    }
    static Number number(std::uint32_t word, int i) {
        return static_cast<Number>((word >> (i * (32 / kOfWord)) & kBits) - kOffset);
    }
    static float weight(std::uint32_t word, int i) { return number(word, i); }
};

// Behind the words of a row that is ready.
struct OfRow {
    float scale;
    std::uint32_t offset;  // what its integer sums begin with, modulo 2^32
};

inline Index ready_size(Index depth) { return pitch<float>(words_of<Format>(depth) + 2); }

inline void make_ready(const Rows<float>& rows, Index begin, Index end, Index depth, float* ready) {
    using V = Vec<float>;
    const Index size = ready_size(depth);
    for (Index r = begin; r < end; ++r) {
        const float* const row = row_at(rows, r);
        float* const to = ready + r * size;
        V largest = V::zero(), none = V::zero();
        for (Index k = 0; k < depth; k += V::kLanes) {
            const V x = load_part<V>(row + k, smaller(V::kLanes, depth - k));
            largest = max(largest, abs(x));
            none = none + (x - x);  // NaN, if it is, or is infinite
        }
        float lane[2][V::kLanes], most = 0, rest = 0;
        largest.store(lane[0]), none.store(lane[1]);
        for (int i = 0; i < V::kLanes; ++i) {
            if (lane[0][i] > most) most = lane[0][i];
            rest += lane[1][i];
        }
        // What is so small that 127 over it is infinite is taken for zero.
        const float times = most > 1e-36f ? 127 / most : 0;
        const V multiple = V::broadcast(times);
        auto* bytes = reinterpret_cast<typename Format::Byte*>(to);
        V total = V::zero();
        for (Index k = 0; k < depth; k += V::kLanes) {
            const V q = to_int32(load_part<V>(row + k, smaller(V::kLanes, depth - k)) * multiple);
            total = add_int32(total, q);
#ifdef FASTRNN_DOT_INT8
            q.store_int8(bytes + k);
#else
            q.store_int16(bytes + k);
#endif
        }
        std::uint32_t part[V::kLanes], sum = 0;  // of what is no number, any number
        static_assert(sizeof part == sizeof lane[0]);
        total.store(lane[0]);
        std::memcpy(part, lane[0], sizeof part);
        for (int i = 0; i < V::kLanes; ++i) sum += part[i];
        const OfRow of{most / 127 + rest, 0 - Format::kOffset * sum};
        std::memcpy(to + words_of<Format>(depth), &of, sizeof of);
    }
}

// Makes of the integer sums of rows, which lie one after the other, what the caller's epilogue takes.
struct Widened {
    Rows<float> rows;
    const Panels<float>& panels;
    const Epilogue<float>& epilogue;

    void of(Index first, Index count, Index panel, int width, float* sums) const {
        using V = Vec<float>;
        const Index column = panel * panels.width * V::kLanes;
        const float* const scales = static_cast<const float*>(panels.data) + column;
        const float* const start = panels.start ? panels.start + column : nullptr;
        for (Index r = first; r < first + count; ++r, sums += width * V::kLanes) {
            OfRow row;
            std::memcpy(&row, row_at(rows, r) + words_of<Format>(panels.depth), sizeof row);
            float offset;
            std::memcpy(&offset, &row.offset, sizeof offset);
            const V each = V::broadcast(row.scale), to_begin = V::broadcast(offset);
            for (Index i = 0; i < width * V::kLanes; i += V::kLanes) {
                const V sum = from_int32(add_int32(V::load(sums + i), to_begin));
                fma(sum, each * V::load(scales + i), start ? V::load(start + i) : V::zero()).store(sums + i);
            }
        }
    }
};

inline void multiply(const Rows<float>& rows, Index row_begin, Index row_end, const Panels<float>& panels,
                     const Turns& turns, const Epilogue<float>& epilogue, const Touched<float>* touched) {
    if (panels.depth == 0)  // sums are what they start from
        return plain_float32.multiply(rows, row_begin, row_end, panels, turns, epilogue, touched);
    Panels<float> words = panels_of_words<Format>(panels);
    words.start = nullptr;
    const Widened widened{rows, panels, epilogue};
    const auto call = [&](Index first, Index count, Index panel, int width, const float* sums) {
        // They are the product's own, which nobody reads any more.
        widened.of(first, count, panel, width, const_cast<float*>(sums));
        epilogue.call(epilogue.context, first, count, panel, width, sums);
    };
    product<Format::Vector>(rows, row_begin, row_end, words, turns, epilogue_of<float>(call), touched);
}

inline void multiply_block(const Rows<float>& rows, Index first, Index end, const Panels<float>& panels, Index panel,
                           float* sums) {
    if (panels.depth == 0) return plain_float32.multiply_block(rows, first, end, panels, panel, sums);
    Panels<float> words = panels_of_words<Format>(panels);
    words.start = nullptr;
    product_of_block<Format::Vector>(rows, first, end, words, panel, sums);
    Widened{rows, panels, {}}.of(first, end - first, panel, width_of(panels, panel), sums);
}

constexpr ProductKernels<float> kernels = kernels_of_words<Format>(multiply, multiply_block, ready_size, make_ready);

}  // namespace int8
}  // namespace
}  // namespace fastrnn::FASTRNN_ISA
