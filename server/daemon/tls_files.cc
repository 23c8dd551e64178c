#include "server/daemon/tls_files.h"

#include <fcntl.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

absl::Status Write(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const bool good = fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const int error = errno;
  if (fd >= 0) close(fd);
  return good ? absl::OkStatus() : absl::FailedPreconditionError(absl::StrCat(path, ": ", std::strerror(error)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TlsFiles>> TlsFiles::Open(const TlsConfig& tls) {
  const char* runtime = std::getenv("RUNTIME_DIRECTORY");
  std::string directory =
      absl::StrCat(runtime != nullptr ? runtime : std::filesystem::temp_directory_path().string(), "/goad-tls-XXXXXX");
  if (mkdtemp(directory.data()) == nullptr) {  // mode 0700
    return absl::FailedPreconditionError(absl::StrCat(directory, ": ", std::strerror(errno)));
  }
  auto files = std::unique_ptr<TlsFiles>(new TlsFiles(directory, !tls.client_ca.empty()));
  if (absl::Status status = files->Publish(tls); !status.ok()) return status;
  return files;
}

TlsFiles::~TlsFiles() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

absl::Status TlsFiles::Publish(const TlsConfig& tls) {
  std::string contents = absl::StrCat(tls.certificate_pem, "\n", tls.key_pem, "\n", tls.client_ca_pem);
  if (contents == published_) return absl::OkStatus();

  // A new directory beside the old one, then one rename of a link: the watcher never sees half of a pair for long.
  const std::string name = absl::StrCat("v", ++version_), folder = absl::StrCat(directory_, "/", name);
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  for (const auto& [file, text] : {std::pair<const char*, const std::string&>{"certificate.pem", tls.certificate_pem},
                                   {"key.pem", tls.key_pem},
                                   {"ca.pem", tls.client_ca_pem}}) {
    if (absl::Status status = Write(absl::StrCat(folder, "/", file), text); !status.ok()) return status;
  }
  std::filesystem::create_directory_symlink(name, absl::StrCat(directory_, "/next"), error);
  std::filesystem::rename(absl::StrCat(directory_, "/next"), absl::StrCat(directory_, "/current"), error);
  if (error) return absl::FailedPreconditionError(absl::StrCat(directory_, ": ", error.message()));
  std::error_code ignored;
  std::filesystem::remove_all(absl::StrCat(directory_, "/v", version_ - 1), ignored);
  published_ = std::move(contents);
  return absl::OkStatus();
}

std::shared_ptr<grpc::ServerCredentials> TlsFiles::Credentials() const {
  const std::string at = absl::StrCat(directory_, "/current/");
  grpc::experimental::TlsServerCredentialsOptions options(
      std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
          at + "key.pem", at + "certificate.pem", client_ca_ ? at + "ca.pem" : "", /*refresh_interval_sec=*/1));
  options.watch_identity_key_cert_pairs();
  if (client_ca_) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

}  // namespace goad::server
