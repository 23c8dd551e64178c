// Tells ThreadSanitizer what gRPC guarantees and it cannot see, gRPC's library being uninstrumented: the reactions of
// one stream happen after the stream was made, and each after the one that started its operation.
#ifndef GOAD_SERVER_BASE_REACTION_H_
#define GOAD_SERVER_BASE_REACTION_H_

#ifdef GOAD_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace goad::server {

// Around what a reaction does before it starts the next operation, which may end on another thread at once. Reads
// nothing of the stream, which may be gone at the end.
class Reaction {
 public:
  explicit Reaction([[maybe_unused]] void* stream) : stream_(stream) {
#ifdef GOAD_TSAN
    __tsan_acquire(stream_);
#endif
  }
  ~Reaction() {
#ifdef GOAD_TSAN
    __tsan_release(stream_);
#endif
  }
  Reaction(const Reaction&) = delete;
  Reaction& operator=(const Reaction&) = delete;

 private:
  [[maybe_unused]] void* const stream_;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_BASE_REACTION_H_
