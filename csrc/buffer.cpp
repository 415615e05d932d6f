#include "buffer.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fastrnn {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kMostKept = std::size_t{256} << 20;  // bytes in all
constexpr int kBlocksKept = 16;                            // a training step has up to a dozen

struct Block {
    void* data;
    std::size_t capacity;
};

// Blocks from the oldest to the newest. It has no destructor, so that tapes may die at exit in any order.
struct Kept {
    std::mutex mutex;
    Block block[kBlocksKept];
    int count = 0;
    std::size_t bytes = 0;

    Block remove(int i) {
        const Block removed = block[i];
        std::move(block + i + 1, block + count, block + i);
        --count;
        bytes -= removed.capacity;
        return removed;
    }
};

Kept& kept() {
    static Kept& instance = *new Kept;
    return instance;
}

void* allocate(std::size_t bytes) noexcept {
    const std::size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
#if defined(_WIN32)
    return _aligned_malloc(bytes, alignment);
#else
    void* data = nullptr;
    if (posix_memalign(&data, alignment, bytes) != 0) return nullptr;
#if defined(__linux__)
    // Advice only: a kernel without huge pages says no, and nothing changes.
    if (alignment == kHugePage) madvise(data, bytes & ~(kHugePage - 1), MADV_HUGEPAGE);
#endif
    return data;
#endif
}

void release(void* data) noexcept {
#if defined(_WIN32)
    _aligned_free(data);
#else
    std::free(data);
#endif
}

// Capacities come in steps of at most an eighth, so that blocks of nearly the same size serve each other; from half a
// huge page on they are whole ones.
std::size_t rounded(std::size_t bytes) {
    if (bytes > static_cast<std::size_t>(PTRDIFF_MAX)) throw std::bad_alloc();
    if (bytes >= kHugePage / 2 && bytes < 16 * kHugePage) return (bytes + kHugePage - 1) / kHugePage * kHugePage;
    std::size_t step = kCacheLine;
    while (step * 16 <= bytes) step *= 2;
    return (bytes + step - 1) / step * step;
}

}  // namespace

// Where the lock is taken - by another thread, or for ever, in a child forked while another thread held it - the calls
// below do without the kept blocks rather than wait.
Buffer::Buffer(std::size_t bytes) : capacity_(rounded(std::max(bytes, kCacheLine))) {
    if (capacity_ >= kSmallestKept) {
        const std::unique_lock<std::mutex> lock(kept().mutex, std::try_to_lock);
        if (lock.owns_lock()) {
            int best = -1;
            for (int i = 0; i < kept().count; ++i) {
                const std::size_t capacity = kept().block[i].capacity;
                if (capacity < capacity_ || capacity / 2 > capacity_) continue;
                if (best < 0 || capacity <= kept().block[best].capacity) best = i;
            }
            if (best >= 0) {
                const Block block = kept().remove(best);
                data_ = block.data;
                capacity_ = block.capacity;
                return;
            }
        }
    }
    data_ = allocate(capacity_);
    if (!data_) {
        const std::unique_lock<std::mutex> lock(kept().mutex, std::try_to_lock);
        if (lock.owns_lock())
            while (kept().count > 0) release(kept().remove(0).data);
        data_ = allocate(capacity_);
    }
    if (!data_) throw std::bad_alloc();
}

Buffer::~Buffer() {
    if (!data_) return;
    if (capacity_ >= kSmallestKept && capacity_ <= kMostKept / 2) {
        const std::unique_lock<std::mutex> lock(kept().mutex, std::try_to_lock);
        if (lock.owns_lock()) {
            while (kept().count == kBlocksKept || kept().bytes + capacity_ > kMostKept) release(kept().remove(0).data);
            kept().block[kept().count++] = {data_, capacity_};
            kept().bytes += capacity_;
            return;
        }
    }
    release(data_);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), capacity_(std::exchange(other.capacity_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    return *this;
}

}  // namespace fastrnn
