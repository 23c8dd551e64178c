#include "server/daemon/reloader.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/clip.h"
#include "server/config/config_files.h"
#include "server/config/config_loader.h"
#include "server/config/config_validator.h"
#include "server/config/place.h"
#include "spdlog/spdlog.h"

namespace goad::server {

absl::StatusOr<Config> Reloader::Read() {
  if (path_.empty()) return absl::FailedPreconditionError("started without a configuration file");
  absl::StatusOr<Config> next = LoadConfig(path_, /*starting=*/false);
  if (!next.ok()) return next;
  const std::shared_ptr<const Config> running = rooms_->config_store.Current();
  const auto in_use = [this](size_t site, std::optional<size_t> backend) { return IsInUse(site, backend); };
  if (absl::Status status = KeepPlaces(*running, in_use, MonotonicTime::Now(), &*next); !status.ok()) return status;
  if (const std::vector<std::string> fixed = RestartOnlyChanges(*running, *next); !fixed.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("needs a restart: ", absl::StrJoin(fixed, ", ")));
  }
  return next;
}

absl::StatusOr<uint64_t> Reloader::Reload(const std::string& by, std::vector<std::string>* told) {
  MutexLock lock(mutex_);
  if (rooms_->decision_log != nullptr) rooms_->decision_log->Reopen();
  absl::StatusOr<Config> next = Read();
  if (next.ok() && rooms_->tls_files != nullptr) {  // may be refused, too
    if (absl::Status status = rooms_->tls_files->Publish(next->listen.tls); !status.ok()) next = status;
  }
  {
    MutexLock last(last_mutex_);
    last_reload_ = MonotonicTime::Now();
    last_error_ = next.ok() ? "" : std::string(next.status().message());
  }
  if (!next.ok()) {
    rooms_->metrics.ConfigReload(false);
    spdlog::error("operator reload refused, the running configuration stays: {} by={}",
                  std::string(next.status().message()), by);
    return next.status();
  }
  std::vector<std::string> warnings = ReloadWarnings(*rooms_->config_store.Current(), *next);
  warnings.insert(warnings.end(), next->warnings.begin(), next->warnings.end());
  for (const std::string& warning : warnings) spdlog::warn("{}: {}", path_, warning);
  if (told != nullptr) *told = warnings;
  const std::shared_ptr<const Config> published = Apply(std::move(*next), /*keep_overrides=*/false);
  if (const size_t ended = rooms_->registry.Recheck(*published); ended > 0) {
    spdlog::warn("reload ended {} sessions: what their callers showed is not known any more, or is somebody else's",
                 ended);
  }
  rooms_->metrics.ConfigReload(true);
  spdlog::info("operator reloaded config_version={} policy={} tau={} by={}", published->version, published->policy.name,
               published->policy.Tau(), by);
  return published->version;
}

AdminPorts::ConfigFile Reloader::File() {
  AdminPorts::ConfigFile file;
  file.path = path_;
  file.difference = DifferenceOfFiles(*rooms_->config_store.Current());
  MutexLock lock(last_mutex_);
  file.last_error = last_error_;
  file.last_reload = last_reload_.value_or(rooms_->started);
  return file;
}

absl::Status Reloader::DrainSite(const std::string& site, const std::string& backend, bool drained,
                                 const std::string& by) {
  MutexLock lock(mutex_);
  Config next = *rooms_->config_store.Current();
  if (absl::Status status = SetDrained(site, backend, drained, &next); !status.ok()) return status;
  spdlog::info("operator {} site={}{}{} by={}", drained ? "drained" : "resumed", site,
               backend.empty() ? "" : " backend=", Clip(backend), by);
  Apply(std::move(next), /*keep_overrides=*/true);
  return absl::OkStatus();
}

// The one place where a configuration reaches those that must hear of it. Whoever names a site or counts for it hears
// before those that decide for it; the rooms with a thread hand it on to that.
std::shared_ptr<const Config> Reloader::Apply(Config next, bool keep_overrides) {
  std::shared_ptr<const Config> published = rooms_->config_store.Publish(std::move(next));
  rooms_->metrics.SetConfig(*published);
  rooms_->registry.SetConfig(published);
  rooms_->devices->acceptor().SetLimits(DeviceLimits(*published));
  rooms_->engine_thread->SetConfig(published, keep_overrides);
  rooms_->dispatch->SetConfig(published);
  rooms_->outboxes.most = published->limits.outboxes_bytes;
  spdlog::set_level(spdlog::level::from_str(published->log.level));
  return published;
}

bool Reloader::IsInUse(size_t site, std::optional<size_t> backend) {
  const auto backends = rooms_->dispatch->Backends();
  const auto busy = [&](size_t b) {
    return site < backends.size() && b < backends[site].size() && backends[site][b].in_flight > 0;
  };
  if (backend) return busy(*backend);
  for (size_t b = 0; site < backends.size() && b < backends[site].size(); ++b) {
    if (busy(b)) return true;
  }
  const EngineStatus status = rooms_->InspectEngine();
  return site < status.sites.size() && status.sites[site].active_queries > 0;
}

}  // namespace goad::server
