#include "server/daemon/tls_files.h"

#include <fcntl.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Memory = std::unique_ptr<BIO, decltype(&BIO_free)>;

absl::Status Bad(const char* field, const std::string& path, const std::string& what) {
  return absl::FailedPreconditionError(absl::StrCat("listen.tls.", field, ": ", path, ": ", what));
}

absl::StatusOr<std::string> Read(const char* field, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return Bad(field, path, "cannot be read");
  return std::string(std::istreambuf_iterator<char>(in), {});
}

absl::StatusOr<Certificate> Parse(const char* field, const std::string& path, const std::string& pem) {
  const Memory memory(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  Certificate certificate(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr), &X509_free);
  if (certificate == nullptr) return Bad(field, path, "holds no PEM certificate");
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) return Bad(field, path, "has expired");
  return certificate;
}

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
  if (absl::Status status = files->Refresh(tls); !status.ok()) return status;
  return files;
}

TlsFiles::~TlsFiles() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

absl::Status TlsFiles::Refresh(const TlsConfig& tls) {
  const auto certificate_pem = Read("certificate", tls.certificate), key_pem = Read("key", tls.key);
  if (!certificate_pem.ok()) return certificate_pem.status();
  if (!key_pem.ok()) return key_pem.status();
  const auto certificate = Parse("certificate", tls.certificate, *certificate_pem);
  if (!certificate.ok()) return certificate.status();
  const Memory memory(BIO_new_mem_buf(key_pem->data(), static_cast<int>(key_pem->size())), &BIO_free);
  const Key key(PEM_read_bio_PrivateKey(memory.get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
  if (key == nullptr) return Bad("key", tls.key, "holds no PEM private key");
  if (X509_check_private_key(certificate->get(), key.get()) != 1) return Bad("key", tls.key, "is not the key of the certificate");
  std::string ca_pem;
  if (client_ca_) {
    auto read = Read("client_ca", tls.client_ca);
    if (!read.ok()) return read.status();
    if (const auto ca = Parse("client_ca", tls.client_ca, *read); !ca.ok()) return ca.status();
    ca_pem = *std::move(read);
  }
  std::string contents = absl::StrCat(*certificate_pem, "\n", *key_pem, "\n", ca_pem);
  if (contents == published_) return absl::OkStatus();

  // A new directory beside the old one, then one rename of a link: the watcher never sees half of a pair for long.
  const std::string name = absl::StrCat("v", ++version_), folder = absl::StrCat(directory_, "/", name);
  std::error_code error;
  std::filesystem::create_directory(folder, error);
  for (const auto& [file, text] : {std::pair<const char*, const std::string&>{"certificate.pem", *certificate_pem}, {"key.pem", *key_pem}, {"ca.pem", ca_pem}}) {
    if (absl::Status status = Write(absl::StrCat(folder, "/", file), text); !status.ok()) return status;
  }
  std::filesystem::create_directory_symlink(name, absl::StrCat(directory_, "/next"), error);
  std::filesystem::rename(absl::StrCat(directory_, "/next"), absl::StrCat(directory_, "/current"), error);
  if (error) return absl::FailedPreconditionError(absl::StrCat(directory_, ": ", error.message()));
  std::error_code ignored;
  std::filesystem::remove_all(absl::StrCat(directory_, "/v", version_ - 1), ignored);
  published_ = std::move(contents);
  tm expiry{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate->get()), &expiry) == 1) expires_ = absl::FromTM(expiry, absl::UTCTimeZone());
  return absl::OkStatus();
}

std::shared_ptr<grpc::ServerCredentials> TlsFiles::Credentials() const {
  const std::string at = absl::StrCat(directory_, "/current/");
  grpc::experimental::TlsServerCredentialsOptions options(std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      at + "key.pem", at + "certificate.pem", client_ca_ ? at + "ca.pem" : "", /*refresh_interval_sec=*/1));
  options.watch_identity_key_cert_pairs();
  if (client_ca_) {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return grpc::experimental::TlsServerCredentials(options);
}

}  // namespace goad::server
