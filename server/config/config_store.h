// The configuration in force, replaced as a whole.
#ifndef GOAD_SERVER_CONFIG_CONFIG_STORE_H_
#define GOAD_SERVER_CONFIG_CONFIG_STORE_H_

#include <memory>

#include "server/base/mutex.h"
#include "server/config/config.h"

namespace goad::server {

// Thread-safe. A reader keeps the version it took for as long as it holds the pointer.
class ConfigStore {
 public:
  explicit ConfigStore(Config config) { Publish(std::move(config)); }

  std::shared_ptr<const Config> Current() const {
    MutexLock lock(mutex_);
    return current_;
  }
  // Stamps the next version and makes it current.
  std::shared_ptr<const Config> Publish(Config config) {
    MutexLock lock(mutex_);
    config.version = current_ == nullptr ? 1 : current_->version + 1;
    current_ = std::make_shared<const Config>(std::move(config));
    return current_;
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const Config> current_ GOAD_GUARDED_BY(mutex_);
};

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_CONFIG_STORE_H_
