#include "dispatch.h"

#include <atomic>
#include <stdexcept>

#include "cpu.h"
#include "isa_list.h"

namespace fastrnn {

#define FASTRNN_DECLARE(isa) extern const KernelTable kernel_table_##isa;
FASTRNN_ISAS(FASTRNN_DECLARE)
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

std::atomic<const KernelTable*> active{nullptr};

std::string names(const std::vector<const KernelTable*>& tables) {
    std::string joined;
    for (const KernelTable* table : tables) joined += (joined.empty() ? "" : ", ") + std::string(table->isa);
    return joined;
}

}  // namespace

std::vector<const KernelTable*> supported_tables() {
    std::vector<const KernelTable*> tables;
    for (const Compiled& compiled : kCompiled)
        if (compiled.supported()) tables.push_back(compiled.table);
    return tables;
}

const KernelTable& active_table() noexcept {
    const KernelTable* table = active.load(std::memory_order_acquire);
    if (!table) {
        for (const Compiled& compiled : kCompiled) {
            if (!compiled.supported()) continue;
            const KernelTable* none = nullptr;
            // Another thread may have chosen meanwhile.
            table = active.compare_exchange_strong(none, compiled.table) ? compiled.table : none;
            break;
        }
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
