// The daemon's certificates, as the configuration holds them (read and checked): written into a private directory,
// where gRPC's file watcher reads them. The watcher takes any file for a certificate, and refuses every handshake while
// one is broken; so it is shown good ones only, and both files of a pair change at once.
#ifndef GOAD_SERVER_DAEMON_TLS_FILES_H_
#define GOAD_SERVER_DAEMON_TLS_FILES_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace grpc {
class ServerCredentials;
}

namespace goad::server {

// Thread-compatible. Removes its directory when destroyed.
class TlsFiles {
 public:
  // REQUIRES: `tls` has been read (config_files.h) and is not empty. The directory is made in $RUNTIME_DIRECTORY, which
  // systemd sets, else in the temporary one. FAILED_PRECONDITION when it cannot be written.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Open(const TlsConfig& tls);
  ~TlsFiles();

  // Publishes what `tls` holds if it changed; new handshakes use it within a second, open connections stay. On an error
  // what was published stays.
  absl::Status Publish(const TlsConfig& tls);

  std::shared_ptr<grpc::ServerCredentials> Credentials() const;

 private:
  TlsFiles(std::string directory, bool client_ca) : directory_(std::move(directory)), client_ca_(client_ca) {}

  const std::string directory_;
  const bool client_ca_;
  int version_ = 0;
  std::string published_;  // the contents, to see a change
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_TLS_FILES_H_
