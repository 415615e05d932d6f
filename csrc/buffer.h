// Memory for results, tapes and workspaces.
//
// Some megabytes live for one training step, and fresh pages from the operating system cost as much time as filling
// them: so a few freed blocks are kept for the next call.
#pragma once

#include <cstddef>

namespace fastrnn {

// Owns `bytes` of uninitialised memory aligned to a cache line. Throws std::bad_alloc.
class Buffer {
public:
    static constexpr std::size_t kSmallestKept = std::size_t{64} << 10;  // below, the C library's free lists do as well

    Buffer() noexcept = default;
    explicit Buffer(std::size_t bytes);
    ~Buffer();
    Buffer(Buffer&& other) noexcept;
    Buffer& operator=(Buffer&& other) noexcept;

    void* data() const noexcept { return data_; }
    std::size_t capacity() const noexcept { return capacity_; }

private:
    void* data_ = nullptr;
    std::size_t capacity_ = 0;
};

}  // namespace fastrnn
