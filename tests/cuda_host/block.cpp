// The threads of a block: which of them runs next, where they wait for each other, what a warp does
// together, and its shared memory.
//
// A thread runs until it comes to a barrier or a warp operation, and goes on when all have come. The
// last to come does the work of all 32; then the order says who is next. When nobody can go on and
// somebody waits, the block is stuck, which on a device would be a hang or worse.
#include "block.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "fiber.hpp"

__thread uint3 threadIdx, blockIdx, blockDim, gridDim;

// Longer than any launch may ask for, so that a write past the end has somewhere to go and be found.
constexpr std::size_t kArray = cuda_host::kSharedMemory + 4096;
extern "C" {
alignas(16) __attribute__((visibility("hidden"))) __thread unsigned char shared_memory[kArray];
// A kernel's own declaration names the namespace that it stands in.
#define PYOIP_ALIAS(name, symbol)                          \
    extern __thread unsigned char name[kArray] asm(symbol) \
        __attribute__((alias("shared_memory"), visibility("hidden")));
PYOIP_ALIAS(shared_memory_1, "_ZN5pyoip13shared_memoryE")
PYOIP_ALIAS(shared_memory_2, "_ZN5pyoip4cuda13shared_memoryE")
PYOIP_ALIAS(shared_memory_3, "_ZN5pyoip4cuda12_GLOBAL__N_113shared_memoryE")
#undef PYOIP_ALIAS
}

namespace cuda_host {

void fail(const std::string& what) {
    std::fprintf(stderr, "cuda_host: %s\n", what.c_str());
    std::abort();
}

namespace {

constexpr unsigned kWarp = 32;

// Where threads wait for each other.
struct Meeting {
    const char* what = nullptr;
    Place place{};
    unsigned arrived = 0;

    bool is_at(const char* what_, const Place& place_) const {
        return what == what_ && place.line() == place_.line() && place.column() == place_.column() &&
               std::string_view(place.file_name()) == place_.file_name();
    }
    std::string text() const {
        return std::string(what) + " (" + place.file_name() + ":" + std::to_string(place.line()) + ")";
    }
};

struct Warp : Meeting {
    unsigned ready = 0;  // lanes that may run
    // What each lane gives and gets.
    unsigned value[kWarp], lane[kWarp], result[kWarp];
    float* d[kWarp];
    const unsigned *a[kWarp], *b[kWarp];
};

class Block {
public:
    static thread_local Block* here;

    Block(unsigned threads, Order order, const std::function<void()>& thread)
        : threads_(threads), alive_(threads), order_(order), thread_(thread) {
        static thread_local std::unique_ptr<Stacks> stacks;
        static thread_local unsigned count = 0;
        if (count < threads) stacks = std::make_unique<Stacks>(count = threads);
        for (unsigned i = 0; i < threads; ++i) fibers_[i].begin(stacks->at(i), Stacks::kBytes, run_thread);
        wake_all();
    }

    void run() {
        here = this;
        enter(pick(), host_);
        here = nullptr;
    }

    void meet_all(Place place) {
        join(all_, "__syncthreads", place);
        if (all_.arrived == threads_) {
            all_.arrived = 0;
            wake_all();
        }
        give_way();
    }

    Warp& warp() { return warps_[threadIdx.x / kWarp]; }

    // What this lane gives must be in place; what it gets is there on return.
    template <class Work>
    void meet_warp(const char* what, Place place, unsigned mask, Work work) {
        if (mask != ~0u) fail(std::string(what) + ": only the full mask is known here");
        Warp& mine = warp();
        join(mine, what, place);
        if (mine.arrived == kWarp) {
            work(mine);
            mine.arrived = 0;
            wake(threadIdx.x / kWarp, ~0u);
        }
        give_way();
    }

private:
    static void run_thread() {
        here->thread_();
        --here->alive_;
        here->give_way();
    }

    void join(Meeting& meeting, const char* what, Place place) {
        if (meeting.arrived++ == 0)
            meeting.what = what, meeting.place = place;
        else if (!meeting.is_at(what, place)) {
            Meeting other{what, place};
            fail(name() + ": thread " + std::to_string(threadIdx.x) + " came to " + other.text() +
                 " while others of it wait at " + meeting.text());
        }
    }

    void wake(unsigned warp, unsigned lanes) {
        warps_[warp].ready = lanes;
        ready_warps_ |= 1u << warp;
    }
    void wake_all() {
        for (unsigned first = 0; first < threads_; first += kWarp)
            wake(first / kWarp, threads_ - first < kWarp ? (1u << (threads_ - first)) - 1 : ~0u);
    }

    unsigned choose(unsigned mask) {
        if (order_.kind == Order::forward) return unsigned(std::countr_zero(mask));
        if (order_.kind == Order::backward) return 31u - unsigned(std::countl_zero(mask));
        order_.seed = order_.seed * 6364136223846793005u + 1442695040888963407u;
        const int turn = int(order_.seed >> 59);
        return unsigned(std::countr_zero(std::rotr(mask, turn)) + turn) % 32;
    }
    unsigned pick() {
        const unsigned warp = choose(ready_warps_), lane = choose(warps_[warp].ready);
        warps_[warp].ready &= ~(1u << lane);
        if (warps_[warp].ready == 0) ready_warps_ &= ~(1u << warp);
        return warp * kWarp + lane;
    }

    void enter(unsigned next, Fiber& from) {
        threadIdx.x = next;
        from.change_to(fibers_[next]);
    }
    void give_way() {
        const unsigned self = threadIdx.x;
        if (ready_warps_ == 0) {
            if (alive_ > 0) stuck();
            fibers_[self].change_to(host_, true);
        }
        const unsigned next = pick();
        if (next != self) enter(next, fibers_[self]);
    }

    static std::string name() { return "block " + std::to_string(blockIdx.x); }

    [[noreturn]] void stuck() {
        std::string text = name() + ": no thread can go on: of " + std::to_string(threads_);
        if (all_.arrived > 0) text += ", " + std::to_string(all_.arrived) + " wait at " + all_.text();
        for (const Warp& one : warps_)
            if (one.arrived > 0)
                text += ", " + std::to_string(one.arrived) + " of warp " + std::to_string(&one - warps_) +
                        " wait at " + one.text();
        fail(text + ", " + std::to_string(threads_ - alive_) + " have ended");
    }

    const unsigned threads_;
    unsigned alive_, ready_warps_ = 0;
    Order order_;
    const std::function<void()>& thread_;
    Meeting all_;
    Warp warps_[kMostThreads / kWarp];
    Fiber fibers_[kMostThreads], host_;
};
thread_local Block* Block::here = nullptr;

Block& here(const char* what) {
    if (Block::here == nullptr) fail(std::string(what) + ": called outside a kernel");
    return *Block::here;
}

// Shared memory: NaNs where the kernel may write, another NaN where it may not.
constexpr std::uint32_t kForbidden = 0x7fc5a5a5;

unsigned char forbidden(std::size_t at) { return static_cast<unsigned char>(kForbidden >> at % 4 * 8); }

#ifdef PYOIP_ASAN
void lock(std::size_t bytes) { __asan_poison_memory_region(shared_memory + bytes, kArray - bytes); }
void unlock() { __asan_unpoison_memory_region(shared_memory, kArray); }
#else
void lock(std::size_t) {}
void unlock() {}
#endif

void lay_out(std::size_t bytes) {
    std::memset(shared_memory, 0xff, bytes);
    for (std::size_t at = bytes; at < kArray; ++at) shared_memory[at] = forbidden(at);
    lock(bytes);
}

void look_past(std::size_t bytes) {
    unlock();
    for (std::size_t at = bytes; at < kArray; ++at)
        if (shared_memory[at] != forbidden(at))
            fail("block " + std::to_string(blockIdx.x) + ": byte " + std::to_string(at) +
                 " of the shared memory was written; the launch asked for " + std::to_string(bytes));
}

// A warp's matrix product: lane 4 g + t has row g (and g + 8) of a and d, column g of b.
void multiply(Warp& warp) {
    float a[16][8], b[8][8], d[16][8];
    const auto tf32 = [](unsigned bits) { return __uint_as_float(bits & 0xffffe000u); };
    for (unsigned lane = 0; lane < kWarp; ++lane) {
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned i = 0; i < 4; ++i) {
            a[g + i % 2 * 8][t + i / 2 * 4] = tf32(warp.a[lane][i]);
            d[g + i / 2 * 8][2 * t + i % 2] = warp.d[lane][i];
        }
        for (unsigned i = 0; i < 2; ++i) b[t + i * 4][g] = tf32(warp.b[lane][i]);
    }
    for (int row = 0; row < 16; ++row)
        for (int k = 0; k < 8; ++k)
            for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    for (unsigned lane = 0; lane < kWarp; ++lane)
        for (unsigned i = 0; i < 4; ++i) warp.d[lane][i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

void vote(Warp& warp) {
    unsigned votes = 0;
    for (unsigned lane = 0; lane < kWarp; ++lane) votes |= unsigned(warp.value[lane] != 0) << lane;
    std::fill_n(warp.result, kWarp, votes);
}

unsigned vote(const char* what, unsigned mask, int predicate, Place place) {
    Warp& warp = here(what).warp();
    warp.value[threadIdx.x % kWarp] = unsigned(predicate);
    Block::here->meet_warp(what, place, mask, [](Warp& all) { vote(all); });
    return warp.result[threadIdx.x % kWarp];
}

}  // namespace

void run_block(unsigned block, unsigned blocks, unsigned threads, std::size_t shared_bytes, Order order,
               const std::function<void()>& thread) {
    blockIdx = {block, 0, 0}, blockDim = {threads, 1, 1}, gridDim = {blocks, 1, 1}, threadIdx = {};
    order.seed += block;
    lay_out(shared_bytes);
    std::make_unique<Block>(threads, order, thread)->run();
    look_past(shared_bytes);
}

}  // namespace cuda_host

using cuda_host::here;
using cuda_host::kWarp;
using cuda_host::Warp;

void __syncthreads(Place place) { here("__syncthreads").meet_all(place); }
void __syncwarp(unsigned mask, Place place) {
    here("__syncwarp").meet_warp("__syncwarp", place, mask, [](Warp&) {});
}
unsigned __ballot_sync(unsigned mask, int predicate, Place place) {
    return cuda_host::vote("__ballot_sync", mask, predicate, place);
}
int __any_sync(unsigned mask, int predicate, Place place) {
    return cuda_host::vote("__any_sync", mask, predicate, place) != 0;
}

unsigned shuffle(Shuffle kind, unsigned mask, unsigned value, unsigned lane, Place place) {
    static constexpr const char* kNames[] = {"__shfl_sync", "__shfl_up_sync", "__shfl_xor_sync"};
    const char* name = kNames[int(kind)];
    Warp& warp = here(name).warp();
    const unsigned self = threadIdx.x % kWarp;
    const unsigned up = lane > self ? self : self - lane;  // the first lanes keep their own
    warp.value[self] = value;
    warp.lane[self] = kind == Shuffle::from ? lane % kWarp : kind == Shuffle::up ? up : (self ^ lane) % kWarp;
    cuda_host::Block::here->meet_warp(name, place, mask, [](Warp& all) {
        for (unsigned i = 0; i < kWarp; ++i) all.result[i] = all.value[all.lane[i]];
    });
    return warp.result[self];
}

void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], Place place) {
    Warp& warp = here("mma").warp();
    const unsigned self = threadIdx.x % kWarp;
    warp.d[self] = d, warp.a[self] = a, warp.b[self] = b;
    cuda_host::Block::here->meet_warp("mma", place, ~0u, [](Warp& all) { cuda_host::multiply(all); });
}
