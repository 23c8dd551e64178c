#include "server/session/identity.h"

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"
#include "server/session/tenant_limiter.h"

namespace goad::server {
namespace {

Config Tenants() {
  Config config;
  config.tenants.resize(2);
  config.tenants[0].name = "acme";
  config.tenants[0].certificates = {"*.acme.example", "boss"};
  config.tenants[1].name = "umbrella";
  // echo -n secret | sha256sum
  config.auth.tokens = {
      {"acme", std::string(32, 'x')},
      {"umbrella", absl::HexStringToBytes("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")}};
  return config;
}

Credentials Certificate(std::vector<std::string> names) {
  Credentials credentials;
  credentials.certificate_names = std::move(names);
  return credentials;
}
Credentials Token(const std::string& authorization, std::vector<std::string> names = {}) {
  Credentials credentials = Certificate(std::move(names));
  credentials.token_sha256 = HashBearerToken(authorization);
  return credentials;
}

TEST(IdentifyCaller, CertificateNamesTheTenant) {
  const Config config = Tenants();
  EXPECT_EQ(IdentifyCaller(config, Certificate({"phone-1.acme.example"}))->tenant, "acme");
  EXPECT_EQ(IdentifyCaller(config, Certificate({"phone-1.acme.example"}))->identity,
            "certificate phone-1.acme.example");
  EXPECT_EQ(IdentifyCaller(config, Certificate({"x", "BOSS"}))->tenant, "acme");
  EXPECT_EQ(IdentifyCaller(config, Certificate({".acme.example"}))->tenant, "default");
  EXPECT_EQ(IdentifyCaller(config, Certificate({"acme.example"}))->tenant, "default");
  EXPECT_EQ(IdentifyCaller(config, Certificate({"phone.acme.example.evil"}))->tenant, "default");
  EXPECT_EQ(IdentifyCaller(config, Certificate({"a.phone.acme.example"}))->tenant, "default");  // a * is one label
}

TEST(IdentifyCaller, ATokenDecidesAndAWrongOneIsRefused) {
  const Config config = Tenants();
  EXPECT_EQ(IdentifyCaller(config, Token("Bearer secret", {}))->tenant, "umbrella");
  EXPECT_EQ(IdentifyCaller(config, Token("bearer secret", {"boss"}))->tenant, "umbrella");
  for (const char* wrong : {"Bearer secrets", "Bearer ", "secret", "", "Basic secret"}) {
    EXPECT_TRUE(absl::IsUnauthenticated(IdentifyCaller(config, Token(wrong, {"boss"})).status())) << wrong;
  }
}

TEST(IdentifyCaller, ARevokedCertificateIsNobody) {
  Config config = Tenants();
  Credentials credentials = Certificate({"boss"});
  credentials.certificate_serial = "issuer 07";
  EXPECT_TRUE(IdentifyCaller(config, credentials).ok());
  config.listen.tls.revoked = {"issuer 06", "issuer 07"};
  EXPECT_TRUE(absl::IsUnauthenticated(IdentifyCaller(config, credentials).status()));
  credentials.certificate_serial = "";  // no certificate, a token: nothing of it is revoked
  EXPECT_TRUE(IdentifyCaller(config, credentials).ok());
}

TEST(IdentifyCaller, NobodyIsOfTheDefaultTenantUnlessAuthIsRequired) {
  Config config = Tenants();
  EXPECT_EQ(IdentifyCaller(config, {})->tenant, "default");
  EXPECT_EQ(IdentifyCaller(config, {})->identity, "");
  config.auth.required = true;
  EXPECT_TRUE(absl::IsUnauthenticated(IdentifyCaller(config, {}).status()));
  EXPECT_TRUE(IdentifyCaller(config, Certificate({"anybody"})).ok());
}

TEST(TenantLimiter, QueriesPerSecondAndPromptTokensPerMinute) {
  TenantLimiter limiter;
  TenantConfig tenant;
  tenant.name = "acme";
  MonotonicTime now = MonotonicTime::FromOrigin(absl::Seconds(9));
  for (int k = 0; k < 100; ++k) EXPECT_EQ(limiter.Admit(tenant, 1000000, now), absl::ZeroDuration());  // no limits
  tenant.queries_per_second = 2;
  EXPECT_EQ(limiter.Admit(tenant, 1, now), absl::ZeroDuration());
  EXPECT_EQ(limiter.Admit(tenant, 1, now), absl::ZeroDuration());
  EXPECT_GT(limiter.Admit(tenant, 1, now), absl::ZeroDuration());
  now = now + absl::Milliseconds(501);
  EXPECT_EQ(limiter.Admit(tenant, 1, now), absl::ZeroDuration());
  EXPECT_GT(limiter.Admit(tenant, 1, now), absl::ZeroDuration());
  TenantConfig other = tenant;
  other.name = "other";
  EXPECT_EQ(limiter.Admit(other, 1, now), absl::ZeroDuration());
  tenant = {"tokens"};
  tenant.prompt_tokens_per_minute = 600;
  EXPECT_EQ(limiter.Admit(tenant, 900, now), absl::ZeroDuration());  // more than there is: paid for afterwards
  const absl::Duration wait = limiter.Admit(tenant, 1, now);
  EXPECT_NEAR(absl::ToDoubleSeconds(wait), 30.1, 0.001);
  EXPECT_GT(limiter.Admit(tenant, 1, now + absl::Seconds(29)), absl::ZeroDuration());
  EXPECT_EQ(limiter.Admit(tenant, 1, now + absl::Seconds(31)), absl::ZeroDuration());
}

TEST(Traceparent, OnlyAWellFormedOneIsPassedOn) {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  EXPECT_EQ(ValidTraceparent(good), good);
  for (const std::string& bad :
       {std::string(), good + "0", good.substr(1), "ff" + good.substr(2), "00_" + good.substr(3),
        "00-0AF7651916cd43dd8448eb211c80319c" + good.substr(35), "00-" + std::string(32, '0') + good.substr(35),
        good.substr(0, 36) + std::string(16, '0') + good.substr(52), good.substr(0, 53) + "\r\n"}) {
    EXPECT_EQ(ValidTraceparent(bad), "") << bad;
  }
}

}  // namespace
}  // namespace goad::server
