// How a loop over tiles is spread over threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

namespace cosmictagger {

// Call body(i) for 0 <= i < count. Each thread begins with its own share, the same consecutive part of the sites in every
// pass, whose values it finds in the caches of its core because it wrote them; when done it helps the others.
template <class Body>
void in_shares(int64_t count, int threads, Body body) {
  struct alignas(64) Share {  // a cache line each, or they would wait for one another
    std::atomic<int64_t> next;
    int64_t end;
  };
  std::vector<Share> shares(threads);
  for (int t = 0; t < threads; ++t) {
    shares[t].next = count * t / threads;
    shares[t].end = count * (t + 1) / threads;
  }
#pragma omp parallel for schedule(static, 1) num_threads(threads)
  for (int thread = 0; thread < threads; ++thread)
    for (int other = 0; other < threads; ++other) {
      Share& share = shares[(thread + other) % threads];
      for (int64_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) body(i);
    }
}

}  // namespace cosmictagger
