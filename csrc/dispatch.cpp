#include "dispatch.h"

#include <atomic>
#include <iterator>
#include <stdexcept>

#include "cpu.h"
#include "isa_list.h"

namespace fastrnn {

#define FASTRNN_DECLARE(isa) extern const KernelTable kernel_table_##isa;
FASTRNN_ISAS(FASTRNN_DECLARE)
#undef FASTRNN_DECLARE
#define FASTRNN_DECLARE(isa, format)                          \
    namespace isa {                                           \
    extern const ProductKernels<float> format##_dot_float32;  \
    double format##_dot_probe(Index iterations, float* sink); \
    }
FASTRNN_DOTS(FASTRNN_DECLARE)
#undef FASTRNN_DECLARE

namespace {

struct Compiled {
    const KernelTable* table;
    bool (*supported)() noexcept;
};

constexpr Compiled kCompiled[] = {
#define FASTRNN_ENTRY(isa) {&kernel_table_##isa, cpu_supports_##isa},
    FASTRNN_ISAS(FASTRNN_ENTRY)
#undef FASTRNN_ENTRY
};
constexpr std::size_t kCount = std::size(kCompiled);

// The tables, with the products that this processor has an instruction for.
struct WithDots {
    KernelTable table[kCount];

    WithDots() noexcept {
        for (std::size_t k = 0; k < kCount; ++k) {
            table[k] = *kCompiled[k].table;
            if (!kCompiled[k].supported()) continue;
#define FASTRNN_ENTRY(isa, format)                                                                  \
    if (kCompiled[k].table == &kernel_table_##isa && cpu_has_dots_##isa##_##format()) {             \
        table[k].f32.product[static_cast<int>(WeightFormat::format)] = &isa::format##_dot_float32;  \
        table[k].probes.products[static_cast<int>(WeightFormat::format)] = isa::format##_dot_probe; \
    }
            FASTRNN_DOTS(FASTRNN_ENTRY)
#undef FASTRNN_ENTRY
        }
    }
};
const KernelTable* with_dots(std::size_t k) noexcept {
    static const WithDots tables;
    return &tables.table[k];
}

std::atomic<const KernelTable*> active{nullptr};

std::string names(const std::vector<const KernelTable*>& tables) {
    std::string joined;
    for (const KernelTable* table : tables) joined += (joined.empty() ? "" : ", ") + std::string(table->isa);
    return joined;
}

}  // namespace

std::vector<const KernelTable*> supported_tables(bool dots) {
    std::vector<const KernelTable*> tables;
    for (std::size_t k = 0; k < kCount; ++k)
        if (kCompiled[k].supported()) tables.push_back(dots ? with_dots(k) : kCompiled[k].table);
    return tables;
}

const KernelTable& active_table() noexcept {
    const KernelTable* table = active.load(std::memory_order_acquire);
    if (!table) {
        const KernelTable* none = nullptr;
        for (std::size_t k = 0; !table; ++k)
            if (kCompiled[k].supported()) table = with_dots(k);
        // Another thread may have chosen meanwhile.
        if (!active.compare_exchange_strong(none, table)) table = none;
    }
    return *table;
}

void choose_table(const std::string& isa) {
    const std::vector<const KernelTable*> tables = supported_tables();
    for (const KernelTable* table : tables) {
        if (isa != table->isa) continue;
        active.store(table, std::memory_order_release);
        return;
    }
    for (const Compiled& compiled : kCompiled)
        if (isa == compiled.table->isa)
            throw std::invalid_argument("this processor does not support '" + isa + "'; available: " + names(tables));
    throw std::invalid_argument("'" + isa + "' is no instruction set of this build; available: " + names(tables));
}

}  // namespace fastrnn
