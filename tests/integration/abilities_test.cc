// What sites can, from their servers' own words to what devices and operators are told, and where queries go by it.
#include "goad/v1/admin.grpc.pb.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

using Exchange = FakeLlmServer::Exchange;

constexpr char kTools[] =
    R"({"total_slots":4,"default_generation_settings":{"n_ctx":4096},"modalities":{"vision":false},)"
    R"("chat_template_caps":{"supports_tools":true}})";
constexpr char kEyes[] =
    R"({"total_slots":4,"default_generation_settings":{"n_ctx":1024},"modalities":{"vision":true},)"
    R"("chat_template_caps":{"supports_tools":false}})";
constexpr char kToolsOption[] = R"({"tools":[{"type":"function","function":{"name":"f"}}]})";
constexpr char kImage[] =
    R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]})";
constexpr char kText[] = R"({"role":"user","content":"why?"})";

class AbilitiesTest : public DaemonTest {
 protected:
  AbilitiesTest() : eyes_(&FakeLlmServer::Answer) {
    backend_.set_props(kTools);
    eyes_.set_props(kEyes);
    config_.sites[0].uplink.model = sched::UplinkModel::kMeasured;
    config_.sites[0].backends[0].api = BackendApi::kChat;
    config_.sites.push_back(config_.sites[0]);
    config_.sites[1].name = "b";
    config_.sites[1].backends[0].url = eyes_.url();
    config_.limits.mandatory_wait = absl::Milliseconds(50);
  }
  void Start() {
    StartDaemon();
    WaitUntil([&] {
      const v1::SitesResponse sites = Sites();
      return sites.sites(0).backends(0).abilities().context_tokens() == 4096 &&
             sites.sites(1).backends(0).abilities().context_tokens() == 1024;
    });
    client_ = Client::Connect({.address = address_, .device_name = "device"});
    WaitUntil([&] { return client_->connected(); });
  }
  v1::SitesResponse Sites() {
    v1::SitesResponse sites;
    grpc::ClientContext context;
    auto admin = v1::Admin::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
    EXPECT_TRUE(admin->Sites(&context, v1::SitesRequest(), &sites).ok());
    return sites;
  }
  // "a", "b", or why it was local.
  std::string Ask(const std::string& message, const std::string& options, int prompt_tokens = 10, bool must = false) {
    goad::Query query = Unsure("");
    query.messages_json = {message};
    query.options_json = options;
    query.prompt_tokens = prompt_tokens;
    query.max_output_tokens = 16;
    query.must_offload = must;
    if (must) query.uncertainty.reset();
    const Answer answer = client_->Ask(query, [] { return std::string("local"); });
    last_ = answer;
    return answer.source == Answer::Source::kEdge ? answer.backend.substr(0, 1) : answer.why_local;
  }

  FakeLlmServer eyes_;
  std::unique_ptr<Client> client_;
  Answer last_;
};

TEST_F(AbilitiesTest, QueriesGoWhereTheirNeedsAreMet) {
  Start();
  for (int k = 0; k < 3; ++k) {
    EXPECT_EQ(Ask(kText, kToolsOption), "a");
    EXPECT_EQ(Ask(kImage, ""), "b");
    EXPECT_EQ(Ask(kText, "", 2000), "a");
  }
  EXPECT_EQ(Ask(kImage, kToolsOption), "NOT_ABLE");
  EXPECT_EQ(Ask(kText, "", 5000), "NOT_ABLE");
  EXPECT_EQ(Metric("goad_decisions_total", "NOT_ABLE"), 2);
  EXPECT_EQ(Ask(kText, "", 5000, /*must=*/true), "NOT_ABLE");
  EXPECT_NE(last_.detail.find("needs 5016 tokens of context"), std::string::npos) << last_.detail;
  EXPECT_EQ(Metric("goad_decisions_total", "NOT_ABLE"), 3);
  EXPECT_EQ(Metric("goad_backend_up"), 2) << "nobody is to blame";
}

TEST_F(AbilitiesTest, DevicesAndOperatorsAreTold) {
  config_.sites[1].backends[0].context = 512;
  config_.sites[1].backends[0].tools = true;
  StartDaemon();
  WaitUntil([&] { return Sites().sites(1).backends(0).abilities().images(); });
  const v1::Abilities can = Sites().sites(1).backends(0).abilities();
  EXPECT_EQ(can.ShortDebugString(),
            "chat: true tools: true tools_from: FROM_CONFIGURED images: true images_from: FROM_SERVER "
            "context_tokens: 512 context_from: FROM_CONFIGURED");
  RawSession session(Channel());
  session.Hello();
  const v1::Welcome welcome = session.Read().welcome();
  ASSERT_EQ(welcome.sites_size(), 2);
  EXPECT_EQ(welcome.sites(1).abilities(0).SerializeAsString(), can.SerializeAsString());
  client_ = Client::Connect({.address = address_});
  WaitUntil([&] { return client_->connected(); });
}

}  // namespace
}  // namespace goad::server
