#include "server/sim/allocation_meter.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

thread_local int64_t live = 0, peak = 0, base = 0;

void* Allocate(size_t size) noexcept {  // null when there is none
  void* memory = std::malloc(size);
  if (memory == nullptr) return nullptr;
  live += static_cast<int64_t>(malloc_usable_size(memory));
  peak = std::max(peak, live);
  return memory;
}
void Free(void* memory) noexcept {
  live -= static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(size_t size) {
  void* memory = Allocate(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return Allocate(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return Allocate(size); }
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete[](void* memory) noexcept { Free(memory); }
void operator delete(void* memory, size_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t) noexcept { Free(memory); }

namespace goad {

size_t PeakBytesSinceLastCall() {
  const int64_t above = peak - base;
  base = peak = live;
  return static_cast<size_t>(std::max<int64_t>(0, above));
}

}  // namespace goad
