#include "server/config/config_files.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/config/certificates.h"
#include "server/config/config_loader.h"

namespace goad::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr long kDay = 86400;

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
Key NewKey() { return {EVP_EC_gen("P-256"), &EVP_PKEY_free}; }

std::string Text(BIO* memory) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(memory, &bytes);
  std::string text(bytes, static_cast<size_t>(size));
  BIO_free(memory);
  return text;
}
std::string Pem(const Key& key, const char* passphrase = nullptr) {
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(memory, key.get(), passphrase == nullptr ? nullptr : EVP_aes_128_cbc(), nullptr, 0, nullptr,
                           const_cast<char*>(passphrase));
  return Text(memory);
}
// Signed by itself, valid from..to seconds from now.
std::string Certificate(const Key& key, const std::string& name, long from_s, long to_s) {
  const std::unique_ptr<X509, decltype(&X509_free)> made(X509_new(), &X509_free);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), from_s);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), to_s);
  X509_set_pubkey(made.get(), key.get());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(made.get(), X509_get_subject_name(made.get()));
  X509_sign(made.get(), key.get(), EVP_sha256());
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(memory, made.get());
  return Text(memory);
}

// Of the authority `name`, revoking serial number `serial`, to be replaced in `next_s` seconds.
std::string Crl(const Key& key, const std::string& name, long serial, long next_s) {
  const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> made(X509_CRL_new(), &X509_CRL_free);
  const std::unique_ptr<X509_NAME, decltype(&X509_NAME_free)> issuer(X509_NAME_new(), &X509_NAME_free);
  X509_NAME_add_entry_by_txt(issuer.get(), "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1,
                             -1, 0);
  X509_CRL_set_issuer_name(made.get(), issuer.get());
  ASN1_TIME* time = X509_gmtime_adj(nullptr, -kDay);
  X509_CRL_set1_lastUpdate(made.get(), time);
  X509_REVOKED* entry = X509_REVOKED_new();
  ASN1_INTEGER* number = ASN1_INTEGER_new();
  ASN1_INTEGER_set(number, serial);
  X509_REVOKED_set_serialNumber(entry, number);
  X509_REVOKED_set_revocationDate(entry, time);
  X509_CRL_add0_revoked(made.get(), entry);
  X509_gmtime_adj(time, next_s);
  X509_CRL_set1_nextUpdate(made.get(), time);
  ASN1_TIME_free(time);
  ASN1_INTEGER_free(number);
  X509_CRL_sign(made.get(), key.get(), EVP_sha256());
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_X509_CRL(memory, made.get());
  return Text(memory);
}

TEST(Crl, RevokesByIssuerAndSerialWhatAnAuthorityOfOursSigned) {
  const Key ours = NewKey(), other = NewKey();
  const std::string bundle = Certificate(ours, "authority", -kDay, kDay);
  std::vector<std::string> warnings, revoked;
  EXPECT_EQ(CrlProblem(Crl(ours, "authority", 0, kDay), bundle, absl::Now(), &warnings, &revoked), "");
  EXPECT_THAT(warnings, IsEmpty());
  // The authority signed itself, without a serial number: its own certificate is what that list revokes.
  EXPECT_EQ(revoked, std::vector<std::string>{RevokedName(bundle)});
  EXPECT_EQ(CrlProblem(Crl(ours, "authority", 7, -10), bundle, absl::Now(), &warnings, &revoked), "");
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr("should have been replaced"));
  EXPECT_EQ(revoked.size(), 2u);
  EXPECT_NE(revoked[1], RevokedName(bundle));
  EXPECT_THAT(CrlProblem(Crl(other, "authority", 7, kDay), bundle, absl::Now(), &warnings, &revoked),
              HasSubstr("signed by none"));
  EXPECT_THAT(CrlProblem(Crl(ours, "another", 7, kDay), bundle, absl::Now(), &warnings, &revoked),
              HasSubstr("signed by none"));
  for (const std::string& bad :
       {std::string(), bundle, std::string("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")}) {
    EXPECT_THAT(CrlProblem(bad, bundle, absl::Now(), &warnings, &revoked), HasSubstr("holds no PEM list"));
  }
  const std::string good = Crl(ours, "authority", 7, kDay);
  EXPECT_EQ(CrlProblem(good + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", bundle, absl::Now(),
                       &warnings, &revoked),
            "list 2 of 2 cannot be read");
  EXPECT_EQ(RevokedName("x"), "");
}

class ConfigFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "goad-files-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    SiteConfig site;
    site.name = "a";
    site.backends.resize(2);
    site.backends[0].url = "http://one";
    site.backends[1].url = "http://two";
    config_.sites = {site};
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  // One line per problem.
  std::string Problems() {
    config_.warnings.clear();
    std::string lines;
    for (const ConfigProblem& problem : ReadConfigFiles(&config_))
      absl::StrAppend(&lines, problem.path, ": ", problem.message, "\n");
    return lines;
  }

  std::string folder_;
  Config config_;
};

TEST_F(ConfigFilesTest, ABundleWithOneGoodCertificateStartsAndNamesTheOthers) {
  const Key key = NewKey();
  const std::string good = Certificate(key, "new", -kDay, kDay), old = Certificate(key, "old", -2 * kDay, -kDay),
                    later = Certificate(key, "later", kDay, 2 * kDay), begin = "-----BEGIN CERTIFICATE-----\n";
  BackendConfig& backend = config_.sites[0].backends[0];
  const auto with = [&](const std::string& pem) {
    backend.ca_file = Write("ca.pem", pem);
    return Problems();
  };
  EXPECT_EQ(with(good), "");
  EXPECT_THAT(config_.warnings, IsEmpty());
  for (const std::string& pem : {old + good, good + old, "\xef\xbb\xbf" + good + later}) {
    EXPECT_EQ(with(pem), "");
    ASSERT_EQ(config_.warnings.size(), 1u);
    EXPECT_THAT(config_.warnings[0],
                testing::AnyOf(HasSubstr("\"CN=old\" has expired"), HasSubstr("\"CN=later\" is not valid before")));
    EXPECT_NE(backend.ca_pem, nullptr);
  }
  EXPECT_THAT(with(old), HasSubstr("no certificate that is valid now: \"CN=old\" has expired"));
  EXPECT_THAT(with(""), HasSubstr("holds no PEM certificate"));
  EXPECT_THAT(with("half of a"), HasSubstr("holds no PEM certificate"));
  EXPECT_THAT(with(good + good.substr(0, good.size() / 2)),
              HasSubstr("holds 2 certificates, of which number 2 cannot be read"));
  EXPECT_THAT(with(good + begin + "AAAA\n-----END CERTIFICATE-----\n"), HasSubstr("number 2 cannot be read"));
  EXPECT_THAT(with(Pem(key)), HasSubstr("holds no PEM certificate"));
  std::string crlf = good;
  for (size_t at = 0; (at = crlf.find('\n', at)) != std::string::npos; at += 2) crlf.insert(at, "\r");
  EXPECT_EQ(with(crlf), "");
}

TEST_F(ConfigFilesTest, ACertificateAndItsKeyBelongTogether) {
  const Key key = NewKey(), other = NewKey();
  const std::string good = Certificate(key, "server", -kDay, kDay);
  const auto with = [&](const std::string& certificate, const std::string& pem) {
    config_.listen.tls = {Write("server.pem", certificate), Write("server.key", pem), ""};
    return Problems();
  };
  EXPECT_EQ(with(good, Pem(key)), "");
  EXPECT_EQ(config_.listen.tls.certificate_pem, good);
  EXPECT_GT(config_.listen.tls.expires, absl::UnixEpoch());
  EXPECT_THAT(with(good, Pem(other)),
              HasSubstr("listen.tls.key: " + folder_ + "/server.key: is not the key of the certificate"));
  EXPECT_THAT(with(good, Pem(key, "secret")), HasSubstr("holds no PEM private key without a passphrase"));
  EXPECT_THAT(with(good, good), HasSubstr("holds no PEM private key"));
  EXPECT_THAT(with(Certificate(key, "old", -2 * kDay, -kDay), Pem(key)), HasSubstr("listen.tls.certificate: "));
  EXPECT_EQ(with(good + Certificate(other, "old", -2 * kDay, -kDay), Pem(key)), "");
  ASSERT_EQ(config_.warnings.size(), 1u);
  EXPECT_THAT(config_.warnings[0], HasSubstr("\"CN=old\" has expired"));
}

TEST_F(ConfigFilesTest, AnApiKeyIsOneWordAndNeverShown) {
  BackendConfig& backend = config_.sites[0].backends[1];
  const auto with = [&](const std::string& key) {
    backend.api_key.clear();
    backend.api_key_file = Write("key", key);
    return Problems();
  };
  for (const char* good : {"s3cret", "s3cret\n", " s3cret\r\n\n", "\xef\xbb\xbfs3cret"}) {
    EXPECT_EQ(with(good), "") << good;
    EXPECT_EQ(backend.api_key, "s3cret");
  }
  for (const std::string& bad :
       {std::string("s3cret\r\nX-Injected: 1"), std::string("s3cret\ts3cret"), std::string("s3cret\0", 7) + "s3cret",
        std::string("s3cret\xe9"), std::string("s3cret s3cret"), std::string("\n"), std::string(),
        std::string(9000, 'k'), std::string("OPENAI_API_KEY=s3cret"), std::string("api_key=s3cret\n"),
        std::string("HF_TOKEN=\"s3cret\""), std::string("\"s3cret\""), std::string("'s3cret'\n"),
        std::string("s3cret\""), std::string("export KEY=s3cret"), std::string("{\"key\":\"s3cret\"}")}) {
    const std::string problem = with(bad);
    EXPECT_THAT(problem, HasSubstr("sites[0].backends[1].api_key_file: " + folder_ + "/key: ")) << bad;
    EXPECT_THAT(problem, testing::Not(HasSubstr("s3cret")));
    EXPECT_EQ(backend.api_key, "");
  }
  EXPECT_THAT(with("OPENAI_API_KEY=x"), HasSubstr("looks like NAME=KEY; want the key and nothing else"));
  EXPECT_THAT(with("'x'"), HasSubstr("has quotes around it; want the key and nothing else"));
  for (const char* good : {"c2VjcmV0a2V5==", "a=b", "KEY=", "token=="}) EXPECT_EQ(with(good), "") << good;
}

TEST_F(ConfigFilesTest, WhatIsNoFileIsNamedWithItsField) {
  ASSERT_EQ(mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  config_.listen.tls = {folder_, "/dev/zero", folder_ + "/fifo"};
  config_.auth.tokens_file = folder_ + "/fifo";
  config_.sites[0].backends[0].api_key_file = folder_;
  config_.sites[0].backends[1].ca_file = "/dev/zero";
  EXPECT_EQ(Problems(),
            absl::StrCat("listen.tls.certificate: ", folder_, ": is a directory, want a regular file\n",
                         "listen.tls.key: /dev/zero: is a device, want a regular file\n",
                         "listen.tls.client_ca: ", folder_, "/fifo: is a FIFO, want a regular file\n",
                         "auth.tokens_file: ", folder_, "/fifo: is a FIFO, want a regular file\n",
                         "sites[0].backends[0].api_key_file: ", folder_, ": is a directory, want a regular file\n",
                         "sites[0].backends[1].ca_file: /dev/zero: is a device, want a regular file\n"));
}

TEST_F(ConfigFilesTest, TheConfigurationItselfMayBeNoDirectoryFifoOrDevice) {
  ASSERT_EQ(mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  EXPECT_THAT(std::string(LoadConfig(folder_).status().message()), HasSubstr("is a directory"));
  EXPECT_THAT(std::string(LoadConfig(folder_ + "/fifo").status().message()), HasSubstr("is a FIFO"));
  EXPECT_THAT(std::string(LoadConfig("/dev/zero").status().message()), HasSubstr("is a device"));
}

TEST(ConfigFiles, TheirDifferenceToWhatWasLoadedNamesThem) {
  const std::string folder = testing::TempDir() + "goad_difference_" + std::to_string(getpid()) + "/";
  std::filesystem::create_directories(folder);
  const std::string file = folder + "goad.yaml", tokens = folder + "tokens";
  const std::string row = "acme:" + std::string(64, 'a') + "\n";
  const std::string yaml =
      "auth: {tokens_file: " + tokens +
      "}\ntenants: [{name: acme}]\nsites: [{name: a, backends: [{url: \"http://127.0.0.1:9\"}]}]\n";
  std::ofstream(tokens) << row;
  std::ofstream(file) << yaml;
  const auto config = LoadConfig(file, /*starting=*/false);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(DifferenceOfFiles(*config), "");
  std::ofstream(tokens) << row << row;
  EXPECT_EQ(DifferenceOfFiles(*config), tokens + " has changed");
  std::filesystem::remove(file);
  EXPECT_THAT(DifferenceOfFiles(*config), HasSubstr("goad.yaml: cannot be opened"));
  EXPECT_THAT(DifferenceOfFiles(*config), HasSubstr("; " + tokens + " has changed"));
  std::ofstream(tokens) << row;
  std::ofstream(file) << yaml;
  EXPECT_EQ(DifferenceOfFiles(*config), "") << "as it was, it is in force";
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace goad::server
