#include "server/config/address.h"

#include "gtest/gtest.h"

namespace goad::server {
namespace {

TEST(Url, GoodOnesAreTaken) {
  for (const char* url :
       {"http://127.0.0.1:8082", "https://llm.example", "http://[::1]:8000", "http://[fe80::1]/a/b", "http://my_host:1",
        "https://llm.example/api/v2", "http://host.:65535", "http://a-b.c0/x%20y", "HTTP://h", "HttpS://h:1/A"}) {
    EXPECT_EQ(UrlProblem(url), "") << url;
  }
}

TEST(Url, BadOnesAreRefusedInWords) {
  for (const char* url : {"",
                          "localhost:80",
                          "ftp://h",
                          "http:/h",
                          "http://",
                          "http:///x",
                          "http://:80",
                          "http://h:",
                          "http://h:0",
                          "http://h:65536",
                          "http://h:080",
                          "http://h:8a",
                          "http://h:-1",
                          "http://::1:8000",
                          "http://::1",
                          "http://[::1",
                          "http://[::1]x",
                          "http://[]",
                          "http://[::g]",
                          "http://[::1%lo]:1",
                          "http://10.0.0.7:8000 ",
                          "http://10.0.0",
                          "http://1.2.3.256",
                          "http://010.0.0.1",
                          "http://999",
                          "http://h h",
                          "http://h\t",
                          "http://h\n",
                          "http://h/",
                          "http://h/v1",
                          "http://h/v1/chat/completions",
                          "http://h/a/v1",
                          "http://h/a/../b",
                          "http://h?x=1",
                          "http://h#x",
                          "http://h/a?b",
                          "http://a..b",
                          "http://.a",
                          "http://h\xc3\xa4",
                          "http://h<",
                          "http://h|/",
                          "http://u@h",
                          "http://u:p@h",
                          "http://@h"}) {
    EXPECT_NE(UrlProblem(url), "") << url;
  }
  EXPECT_NE(UrlProblem("http://" + std::string(64, 'a')), "");
  EXPECT_NE(UrlProblem("http://h/" + std::string(600, 'a')), "");
  EXPECT_NE(UrlProblem(std::string("http://h\0x", 10)), "");
  EXPECT_NE(UrlProblem("http://user:s3cret@h").find("api_key_file"), std::string::npos);
  EXPECT_EQ(UrlProblem("http://user:s3cret@h").find("s3cret"), std::string::npos);
  for (const char* zone : {"http://[fe80::1%eth0]:1", "http://[fe80::1%25eth0]", "http://[fe80::1%25]/x"}) {
    EXPECT_NE(UrlProblem(zone).find("has a zone (%), which"), std::string::npos) << UrlProblem(zone);
  }
  EXPECT_EQ(UrlProblem("http://h/@x"), "") << "an @ of the path is no password";
}

TEST(Url, TheSameServerLooksTheSame) {
  EXPECT_EQ(SameUrl("http://Host"), SameUrl("http://host:80"));
  EXPECT_EQ(SameUrl("https://host"), SameUrl("https://host:443"));
  EXPECT_EQ(SameUrl("http://[0:0:0::1]:7"), SameUrl("http://[::1]:7"));
  EXPECT_NE(SameUrl("http://h/a"), SameUrl("http://h/A"));
  EXPECT_EQ(SameUrl("HTTPS://h"), SameUrl("https://h"));
  EXPECT_EQ(PlaceOf("HTTP://[0::1]:7/x").host, "::1");
  EXPECT_EQ(PlaceOf("http://[::1]:7/x").port, 7);
  EXPECT_EQ(PlaceOf("https://Gpu.example./x").host, "gpu.example.");
  EXPECT_EQ(PlaceOf("https://h").port, 443);
  EXPECT_TRUE(PlaceOf("https://h").https);
  EXPECT_FALSE(PlaceOf("Http://h").https);
}

TEST(Address, HostAndPortOrASocket) {
  for (const char* address :
       {"0.0.0.0:7443", "[::]:7443", "localhost:0", "127.0.0.1:65535", "unix:/run/goad/admin.sock", "unix:a"}) {
    EXPECT_EQ(AddressProblem(address, true), "") << address;
  }
  for (const char* address : {"", "nonsense", "7443", ":7443", "h:", "h:x", "h:65536", "h:01", "::1:7443", "[::1]",
                              "[::1]7443", "1.2.3:4", "h h:1", "unix:", "http://h:1"}) {
    EXPECT_NE(AddressProblem(address, true), "") << address;
  }
  EXPECT_NE(AddressProblem("unix:/" + std::string(200, 'x'), true), "");
  EXPECT_NE(AddressProblem("unix:/x", false), "");
}

}  // namespace
}  // namespace goad::server
