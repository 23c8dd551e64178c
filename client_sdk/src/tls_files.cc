#include "client_sdk/src/tls_files.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"

namespace goad::internal {
namespace {

constexpr size_t kMostBytes = 1 << 20;

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Memory = std::unique_ptr<BIO, decltype(&BIO_free_all)>;

absl::Status Bad(const char* option, const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", path, ": ", what));
}

absl::StatusOr<std::string> ReadFile(const char* option, const std::string& path) {
  const auto failed = [&] {
    const std::string message = absl::StrCat(option, ": ", path, ": cannot be read: ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(message) : absl::InvalidArgumentError(message);
  };
  if (path.find('\0') != std::string::npos) return Bad(option, path.c_str(), "a path with a NUL byte");
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO would wait for its writer
  if (file < 0) return failed();
  const std::unique_ptr<const int, void (*)(const int*)> closer(&file, [](const int* open_file) { close(*open_file); });
  struct stat info {};
  if (fstat(file, &info) != 0) return failed();
  if (!S_ISREG(info.st_mode)) return Bad(option, path, "is no regular file");
  std::string text(kMostBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(file, text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed();
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kMostBytes) return Bad(option, path, absl::StrCat("more than ", kMostBytes, " bytes"));
  if (size == 0) return Bad(option, path, "is empty");
  text.resize(size);
  return text;
}

// All certificates of the text. One that is broken is an error, also behind good ones.
absl::StatusOr<std::vector<Certificate>> ReadCertificates(const char* option, const std::string& path,
                                                          const std::string& text) {
  std::vector<Certificate> all;
  const Memory memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free_all);
  ERR_clear_error();
  for (;;) {
    Certificate next(PEM_read_bio_X509(memory.get(), nullptr, nullptr, nullptr), &X509_free);
    if (next == nullptr) break;
    all.push_back(std::move(next));
  }
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  if (ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE) {
    return Bad(option, path, absl::StrCat("certificate ", all.size() + 1, " in it cannot be read"));
  }
  if (all.empty()) return Bad(option, path, "holds no PEM certificate");
  return all;
}

}  // namespace

absl::StatusOr<TlsFiles> ReadTlsFiles(const std::string& root_ca_file, const std::string& certificate_file,
                                      const std::string& key_file) {
  TlsFiles files;
  auto root_ca = ReadFile("root_ca_file", root_ca_file);
  if (!root_ca.ok()) return root_ca.status();
  if (auto roots = ReadCertificates("root_ca_file", root_ca_file, *root_ca); !roots.ok()) return roots.status();
  files.root_ca = *std::move(root_ca);
  if (certificate_file.empty()) return files;

  auto certificate = ReadFile("certificate_file", certificate_file);
  if (!certificate.ok()) return certificate.status();
  auto chain = ReadCertificates("certificate_file", certificate_file, *certificate);
  if (!chain.ok()) return chain.status();
  auto key = ReadFile("key_file", key_file);
  if (!key.ok()) return key.status();
  const Memory memory(BIO_new_mem_buf(key->data(), static_cast<int>(key->size())), &BIO_free_all);
  const auto no_passphrase = [](char*, int, int, void*) { return -1; };  // else OpenSSL asks the terminal
  const Key parsed(PEM_read_bio_PrivateKey(memory.get(), nullptr, no_passphrase, nullptr), &EVP_PKEY_free);
  const bool fits = parsed != nullptr && X509_check_private_key((*chain)[0].get(), parsed.get()) == 1;
  ERR_clear_error();
  if (parsed == nullptr) return Bad("key_file", key_file, "holds no PEM private key without a passphrase");
  if (!fits) return Bad("key_file", key_file, absl::StrCat("is not the key of ", certificate_file));
  files.certificate = *std::move(certificate);
  files.key = *std::move(key);
  return files;
}

}  // namespace goad::internal
