// Work over images on a few threads, with the caller's thread kept free to poll.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace pyoip {

// Asked about ten times a second in the caller's thread, and once at the end; true cancels.
using Poll = std::function<bool(std::int64_t done, std::int64_t total)>;

// Calls work(thread, index, stop) once for every index in 0 … count - 1, indices handed out
// in ascending order, so that what is finished early is a prefix. `stop` turns true on
// cancellation: work in flight is expected to return soon. Returns false when cancelled.
// The first exception of any worker cancels the rest and is thrown here.
template <class Work>
bool parallel_for(std::int64_t count, int threads, const Poll& poll, const Work& work) {
    std::atomic<std::int64_t> next{0}, done{0};
    std::atomic<int> running{threads};
    bool stop = false;
    std::mutex mutex;
    std::condition_variable finished;
    std::exception_ptr failure;

    auto cancel = [&] { __atomic_store_n(&stop, true, __ATOMIC_RELAXED); };
    auto run = [&](int thread) {
        try {
            for (std::int64_t i; !__atomic_load_n(&stop, __ATOMIC_RELAXED) && (i = next++) < count;) {
                work(thread, i, static_cast<const bool*>(&stop));
                ++done;
            }
        } catch (...) {
            const std::lock_guard lock(mutex);
            if (!failure) failure = std::current_exception();
            cancel();
        }
        const std::lock_guard lock(mutex);
        --running;
        finished.notify_one();
    };

    std::vector<std::thread> pool;
    pool.reserve(std::size_t(threads));
    try {
        for (int t = 0; t < threads; ++t) pool.emplace_back(run, t);
        std::unique_lock lock(mutex);
        while (running > 0) {
            finished.wait_for(lock, std::chrono::milliseconds(100));
            if (!poll || running == 0) continue;
            lock.unlock();
            if (poll(done, count)) cancel();
            lock.lock();
        }
        lock.unlock();
        if (poll && count > 0 && !stop && poll(done, count)) cancel();  // so that all ends at 100 %
    } catch (...) {  // from poll, or no more threads to be had
        cancel();
        for (auto& thread : pool) thread.join();
        throw;
    }
    for (auto& thread : pool) thread.join();
    if (failure) std::rethrow_exception(failure);
    return !stop || done == count;
}

}  // namespace pyoip
