#include "server/config/certificates.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"

namespace goad::server {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Memory = std::unique_ptr<BIO, decltype(&BIO_free)>;

constexpr size_t kMostCertificates = 10000;  // of a bundle; the system's own has some 150
constexpr size_t kMostName = 200;            // bytes of a name in an error

// Without it OpenSSL asks for a passphrase on the terminal, and waits.
int NoPassphrase(char*, int, int, void*) { return 0; }

Memory Reader(const std::string& pem) { return {BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free}; }

std::string NameOf(const X509* certificate) {
  const Memory text(BIO_new(BIO_s_mem()), &BIO_free);
  X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(text.get(), &bytes);
  return absl::StrCat("\"", std::string(bytes, static_cast<size_t>(size)).substr(0, kMostName), "\"");
}

absl::Time TimeOf(const ASN1_TIME* time) {
  tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? absl::FromTM(parts, absl::UTCTimeZone()) : absl::InfinitePast();
}
absl::Time Begins(const Certificate& c) { return TimeOf(X509_get0_notBefore(c.get())); }
absl::Time Ends(const Certificate& c) { return TimeOf(X509_get0_notAfter(c.get())); }
std::string Day(absl::Time time) { return absl::FormatTime("%Y-%m-%d", time, absl::UTCTimeZone()); }

// How many certificates the text means to hold, by their first lines.
size_t CountBegins(const std::string& pem) {
  size_t count = 0;
  for (const char* begin :
       {"-----BEGIN CERTIFICATE-----", "-----BEGIN X509 CERTIFICATE-----", "-----BEGIN TRUSTED CERTIFICATE-----"}) {
    for (size_t at = pem.find(begin); at != std::string::npos; at = pem.find(begin, at + 1)) ++count;
  }
  return count;
}

std::string ReadAll(const std::string& pem, std::vector<Certificate>* out) {
  const size_t meant = CountBegins(pem);
  if (meant == 0) return "holds no PEM certificate";
  if (meant > kMostCertificates)
    return absl::StrCat("holds ", meant, " certificates, want at most ", kMostCertificates);
  const Memory memory = Reader(pem);
  for (size_t k = 0; k < meant; ++k) {
    Certificate certificate(PEM_read_bio_X509_AUX(memory.get(), nullptr, &NoPassphrase, nullptr), &X509_free);
    if (certificate == nullptr) {
      ERR_clear_error();
      return absl::StrCat("holds ", meant, " certificates, of which number ", k + 1, " cannot be read");
    }
    out->push_back(std::move(certificate));
  }
  return "";
}

// What is wrong with its dates, "" = nothing.
std::string DateProblem(const Certificate& certificate, absl::Time now) {
  if (Ends(certificate) < now)
    return absl::StrCat(NameOf(certificate.get()), " has expired on ", Day(Ends(certificate)));
  if (Begins(certificate) > now)
    return absl::StrCat(NameOf(certificate.get()), " is not valid before ", Day(Begins(certificate)));
  return "";
}

}  // namespace

std::string BundleProblem(const std::string& pem, absl::Time now, std::vector<std::string>* warnings) {
  std::vector<Certificate> certificates;
  if (std::string problem = ReadAll(pem, &certificates); !problem.empty()) return problem;
  std::vector<std::string> bad;
  for (const Certificate& certificate : certificates) {
    if (std::string problem = DateProblem(certificate, now); !problem.empty()) bad.push_back(std::move(problem));
  }
  if (bad.size() == certificates.size()) return absl::StrCat("holds no certificate that is valid now: ", bad.front());
  for (std::string& problem : bad) {
    warnings->push_back(
        absl::StrCat("of ", certificates.size(), " certificates ", problem, "; whom it signed is not let in"));
  }
  return "";
}

std::string PairProblem(const std::string& chain_pem, const std::string& key_pem, absl::Time now,
                        std::vector<std::string>* warnings, absl::Time* expires) {
  std::vector<Certificate> chain;
  if (std::string problem = ReadAll(chain_pem, &chain); !problem.empty()) return absl::StrCat("certificate: ", problem);
  const Memory memory = Reader(key_pem);
  const Key key(PEM_read_bio_PrivateKey(memory.get(), nullptr, &NoPassphrase, nullptr), &EVP_PKEY_free);
  ERR_clear_error();
  if (key == nullptr) return "key: holds no PEM private key without a passphrase";
  if (X509_check_private_key(chain[0].get(), key.get()) != 1) {
    ERR_clear_error();
    return "key: is not the key of the certificate";
  }
  *expires = Ends(chain[0]);
  if (*expires < now) return absl::StrCat("certificate: ", DateProblem(chain[0], now));
  for (const Certificate& certificate : chain) {  // the clock of a machine that has just started may be wrong: no error
    if (std::string problem = DateProblem(certificate, now); !problem.empty()) warnings->push_back(std::move(problem));
  }
  return "";
}

namespace {

constexpr int kMostRevoked = 100000;
constexpr char kCrlBegins[] = "-----BEGIN X509 CRL-----";

std::string IssuerAndSerial(const X509_NAME* issuer, const ASN1_INTEGER* serial) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_NAME(const_cast<X509_NAME*>(issuer), &der);
  std::string name(reinterpret_cast<char*>(der), static_cast<size_t>(std::max(0, size)));
  OPENSSL_free(der);
  BIGNUM* number = ASN1_INTEGER_to_BN(serial, nullptr);
  char* hex = number == nullptr ? nullptr : BN_bn2hex(number);
  absl::StrAppend(&name, " ", hex == nullptr ? "?" : hex);
  OPENSSL_free(hex);
  BN_free(number);
  return name;
}

}  // namespace

std::string CrlProblem(const std::string& crl_pem, const std::string& bundle_pem, absl::Time now,
                       std::vector<std::string>* warnings, std::vector<std::string>* revoked) {
  std::vector<Certificate> authorities;
  if (std::string problem = ReadAll(bundle_pem, &authorities); !problem.empty())
    return absl::StrCat("client_ca: ", problem);
  const Memory memory = Reader(crl_pem);
  int lists = 0;
  for (;; ++lists) {
    const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> crl(
        PEM_read_bio_X509_CRL(memory.get(), nullptr, &NoPassphrase, nullptr), &X509_CRL_free);
    ERR_clear_error();
    if (crl == nullptr) break;
    bool signed_by_us = false;
    for (const Certificate& authority : authorities) {
      if (X509_NAME_cmp(X509_get_subject_name(authority.get()), X509_CRL_get_issuer(crl.get())) != 0) continue;
      signed_by_us = signed_by_us || X509_CRL_verify(crl.get(), X509_get0_pubkey(authority.get())) == 1;
      ERR_clear_error();
    }
    if (!signed_by_us)
      return absl::StrCat("list ", lists + 1, " is signed by none of the authorities in listen.tls.client_ca");
    if (const ASN1_TIME* next = X509_CRL_get0_nextUpdate(crl.get()); next != nullptr && TimeOf(next) < now) {
      warnings->push_back(absl::StrCat("list ", lists + 1, " should have been replaced on ", Day(TimeOf(next))));
    }
    STACK_OF(X509_REVOKED)* entries = X509_CRL_get_REVOKED(crl.get());
    for (int k = 0; k < sk_X509_REVOKED_num(entries); ++k) {
      if (static_cast<int>(revoked->size()) >= kMostRevoked)
        return absl::StrCat("revokes more than ", kMostRevoked, " certificates");
      revoked->push_back(IssuerAndSerial(X509_CRL_get_issuer(crl.get()),
                                         X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(entries, k))));
    }
  }
  if (lists == 0) return "holds no PEM list of revoked certificates (-----BEGIN X509 CRL-----)";
  int begun = 0;
  for (size_t at = crl_pem.find(kCrlBegins); at != crl_pem.npos; at = crl_pem.find(kCrlBegins, at + 1)) ++begun;
  return begun > lists ? absl::StrCat("list ", lists + 1, " of ", begun, " cannot be read") : "";
}

std::string RevokedName(const std::string& certificate_pem) {
  const Memory memory = Reader(certificate_pem);
  const Certificate certificate(PEM_read_bio_X509(memory.get(), nullptr, &NoPassphrase, nullptr), &X509_free);
  ERR_clear_error();
  if (certificate == nullptr) return "";
  return IssuerAndSerial(X509_get_issuer_name(certificate.get()), X509_get_serialNumber(certificate.get()));
}

}  // namespace goad::server
