// Records sessions with a daemon in this process over real gRPC, for data/compat: the SDK's core as an app drives it,
// and raw frames for what the SDK never sends. By hand, and only to add a folder beside the old ones:
//
//   mkdir DIR && GOAD_RECORD=DIR build/tests/compat_record_frames
#include <google/protobuf/text_format.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "goad/v1/admin.grpc.pb.h"
#include "tests/compat/frames.h"
#include "tests/support/daemon_fixture.h"

namespace goad::server {
namespace {

using compat::App;
using compat::Trace;
using FrameCase = v1::ServerFrame::FrameCase;
using Exchange = FakeLlmServer::Exchange;

// What the prompt says is what happens.
void Serve(Exchange& e) {
  const bool chat = e.head.find("/chat/") != std::string::npos;
  const auto has = [&](const char* word) { return e.body.find(word) != std::string::npos; };
  const auto token = [&](const std::string& text) {
    nlohmann::json choice = {{"index", 0}};
    if (chat) {
      choice["delta"] = {{"content", text}};
    } else {
      choice["text"] = text;
    }
    if (has("\"logprobs\":")) {
      if (chat) {
        const nlohmann::json top = {{{"token", text}, {"logprob", -0.25}}, {{"token", "ho"}, {"logprob", -1.5}}};
        choice["logprobs"] = {{"content", {{{"token", text}, {"logprob", -0.25}, {"top_logprobs", top}}}}};
      } else {
        choice["logprobs"] = {
            {"tokens", {text}}, {"token_logprobs", {-0.25}}, {"top_logprobs", {{{text, -0.25}, {"ho", -1.5}}}}};
      }
    }
    return e.Send("data: " + nlohmann::json{{"choices", {choice}}}.dump() + "\n\n");
  };
  if (has("REFUSE")) {
    e.Head(400) && e.Send("{\"error\":{\"message\":\"the prompt is too long\",\"code\":400}}");
    return;
  }
  if (has("CALL")) {  // thinks, calls two tools in pieces, and would rather not
    const auto delta = [&](const nlohmann::json& what) {
      return e.Send("data: " + nlohmann::json{{"choices", {{{"index", 0}, {"delta", what}}}}}.dump() + "\n\n");
    };
    const auto call = [](int index, const char* id, const char* name, const char* arguments) {
      nlohmann::json piece = {{"index", index}, {"function", {{"arguments", arguments}}}};
      if (*id != 0) piece["id"] = id, piece["function"]["name"] = name;
      return nlohmann::json{{"tool_calls", {piece}}};
    };
    e.Head() && delta({{"reasoning_content", "which one? "}}) && delta({{"reasoning_content", "b\xC3\xA4h"}}) &&
        delta(call(0, "c1", "weather", "{\"city\":")) && delta(call(0, "", "", "\"K\xC3\xB6ln\"}")) &&
        delta(call(1, "c2", "time", "{}")) && delta({{"content", "so "}}) && delta({{"refusal", "no"}}) &&
        e.Send(
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}],"
            "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n");
    return;
  }
  if (!e.Head() || !token("hi ")) return;
  if (has("BREAK")) {
    e.WaitForRelease();
    return;
  }
  if (has("HOLD") && !e.WaitForRelease()) return;
  if (!token("th\xC3\xA9re")) return;
  nlohmann::json last = {{"index", 0}, {"finish_reason", "stop"}};
  if (chat) {
    last["delta"] = nlohmann::json::object();
  } else {
    last["text"] = "";
  }
  nlohmann::json event = {{"choices", {last}}};
  if (!has("NO USAGE")) event["usage"] = {{"prompt_tokens", 5}, {"completion_tokens", 2}};
  e.Send("data: " + event.dump() + "\n\ndata: [DONE]\n\n");
}

class RecordFrames : public DaemonTest {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("GOAD_RECORD");
    if (folder == nullptr) GTEST_SKIP() << "GOAD_RECORD=DIR says where to";
    folder_ = folder;
    const Config recorded = compat::RecordedConfig();
    config_.sites = recorded.sites;
    config_.limits = recorded.limits;
    config_.kinds = recorded.kinds;
    config_.neighbours = recorded.neighbours;
    config_.sites[0].backends[0].url = backend_.url();
    config_.sites[1].backends[0].url = chat_backend_.url();
    backend_.set_script(&Serve);
    StartDaemon({.config_path = file_});
  }
  RecordFrames() : file_(testing::TempDir() + "goad-record-XXXXXX") { close(mkstemp(file_.data())); }
  ~RecordFrames() override { unlink(file_.c_str()); }
  // Of the sites that there were, the second, and a third one.
  void Reload() {
    std::ofstream(file_)
        << "listen: {address: \"127.0.0.1:0\"}\nadmin: {address: \"127.0.0.1:0\"}\n"
        << "metrics: {address: \"127.0.0.1:0\"}\ndispatch: {probe_period: 50ms}\n"
        << "neighbours: [{address: \"north.example:7443\", sites: [hill, mill]}]\n"
        << "limits: {grant: 300ms, queries_per_session: 2}\nsites:\n  - name: rate\n    backends: [{url: \""
        << chat_backend_.url() << "\", api: chat}]\n  - name: late\n    backends: [{url: \"" << backend_.url()
        << "\"}]\n";
    ASSERT_TRUE(daemon_->Reload().ok());
    WaitUntil([this] { return Metric("goad_backend_up", "site=\"late\"") == 1; });
  }
  void Drain(const std::string& site, const std::string& backend, bool resume) {
    v1::DrainSiteRequest request;
    request.set_site(site);
    request.set_backend(backend);
    request.set_resume(resume);
    v1::DrainSiteResponse response;
    grpc::ClientContext context;
    const auto admin = v1::Admin::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", daemon_->admin_port()), grpc::InsecureChannelCredentials()));
    ASSERT_TRUE(admin->DrainSite(&context, request, &response).ok());
  }
  void Save(const Trace& trace, const std::string& name) { ASSERT_TRUE(trace.Write(folder_ + "/" + name + ".txt")); }

  FakeLlmServer chat_backend_{&Serve};
  std::string folder_, file_;
};

// An app on the SDK's core, over one stream.
class SdkSession {
 public:
  SdkSession(const std::shared_ptr<grpc::Channel>& channel, const std::string& what)
      : session_(channel), app_([this](const std::string& text) { trace_.Text("heard", text); }) {
    trace_.Comment(what);
    app_.core().Tick(Now());
    Apply();
    Until(FrameCase::kWelcome);
  }
  void Call(const std::string& line) {
    trace_.Text("app", line);
    app_.Call(line, Now());
    Apply();
  }
  // Reads until a frame of this kind.
  v1::ServerFrame Until(FrameCase kind) {
    for (;;) {
      const v1::ServerFrame frame = session_.Read();
      if (frame.frame_case() == FrameCase::FRAME_NOT_SET) {
        ADD_FAILURE() << "the stream ended before " << kind;
        return frame;
      }
      trace_.Frame("server", frame);
      app_.Hear(1, frame, Now());
      Apply();
      if (frame.frame_case() == kind) return frame;
    }
  }
  // Reads until it is told that the site takes chats, or does not, and what its servers can, which is told last.
  void UntilSite(const std::string& name, bool chat) {
    for (bool there = false; !there && !testing::Test::HasFailure();) {
      const v1::ServerFrame told = Until(FrameCase::kSites);
      for (const v1::SiteInfo& site : told.sites().sites()) {
        there |= site.name() == name && site.chat() == chat && site.abilities_size() > 0;
      }
    }
  }
  void HalfClose() { session_.HalfClose(); }
  const Trace& trace() const { return trace_; }

 private:
  static absl::Duration Now() { return MonotonicTime::Now() - MonotonicTime(); }
  void Apply() {
    for (internal::Action& action : app_.core().TakeActions()) {
      if (const auto* send = std::get_if<internal::SendFrame>(&action)) {
        trace_.Frame("device", send->frame);
        session_.Send(send->frame);
      }
      if (const auto* notify = std::get_if<internal::Notify>(&action)) notify->call();
    }
  }

  Trace trace_;
  RawSession session_;
  App app_;
};

class RawTrace {
 public:
  RawTrace(const std::shared_ptr<grpc::Channel>& channel, const std::string& what) : session_(channel) {
    trace_.Comment(what);
  }
  void Send(const v1::DeviceFrame& frame) {
    trace_.Frame("device", frame);
    session_.Send(frame);
  }
  v1::ServerFrame Read(FrameCase kind) {
    const v1::ServerFrame frame = session_.Read();
    EXPECT_EQ(frame.frame_case(), kind) << frame.ShortDebugString();
    trace_.Frame("server", frame);
    return frame;
  }
  void Comment(const std::string& text) { trace_.Comment(text); }
  void HalfClose() { session_.HalfClose(); }
  const Trace& trace() const { return trace_; }

 private:
  Trace trace_;
  RawSession session_;
};

constexpr char kLinks[] = R"(links [{"site":"radio","gain_db":-80},{"site":"rate","uplink_bps":2e7}])";

v1::DeviceFrame FrameOf(const std::string& text) {
  v1::DeviceFrame frame;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &frame)) << text;
  return frame;
}

TEST_F(RecordFrames, TheSdk) {
  SdkSession sdk(Channel(), "the SDK: one answer of each kind");
  sdk.Call(kLinks);
  sdk.Call(R"(ask {"id":"edge","uncertainty":0.95,"prompt":"why?","prompt_tokens":3,)"
           R"("local_delay_s":0.5,"kind":"question"})");
  sdk.Until(FrameCase::kCompleted);
  sdk.Call(R"(ask {"id":"sure","uncertainty":0.1,"prompt":"why?","local_delay_s":0.001,"max_output_tokens":16})");
  sdk.Until(FrameCase::kDecision);
  sdk.Call(R"(local ["sure",0.002])");
  sdk.Call(R"(ask {"id":"chat","first_token":[["Yes",0.5],[" yes",0.1],["No",0.3]],)"
           R"("chat":[["system","be brief"],["user","is it?"]],"prompt_tokens":9,"max_output_tokens":16,)"
           R"("expected_output_tokens":2,"local_delay_s":2,"deadline_s":60,"edge_work_flop":1e12,)"
           R"("temperature":0.5,"stop":["\n","END"],"seed":-7})");
  sdk.Until(FrameCase::kCompleted);
  sdk.Call(R"(ask {"id":"must","must_offload":true,"prompt":"NO USAGE"})");
  sdk.Until(FrameCase::kCompleted);
  sdk.Call(R"(ask {"id":"calls","uncertainty":0.9,"messages":[{"role":"user","content":[{"type":"text","text":"CALL"},)"
           R"({"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}}]}],)"
           R"("options":{"tools":[{"type":"function","function":{"name":"weather"}}]},"reasoning":true,)"
           R"("prompt_tokens":9,"max_output_tokens":16})");
  sdk.Until(FrameCase::kCompleted);
  sdk.Call(R"(ask {"id":"refused","uncertainty":0.9,"prompt":"REFUSE"})");
  sdk.Until(FrameCase::kFailed);
  sdk.Call(R"(ask {"id":"cancelled","uncertainty":0.9,"prompt":"HOLD","max_output_tokens":16})");
  sdk.Until(FrameCase::kTokens);
  sdk.Call(R"(cancel "cancelled")");
  sdk.Until(FrameCase::kCancelled);
  sdk.Call(R"(ask {"id":"late","uncertainty":0.9,"prompt":"why?","never_upload":true})");
  sdk.Until(FrameCase::kFailed);
  sdk.Call(R"(links [{"site":"gone","uplink_bps":1e6},{"site":"rate","rsrp_dbm":-90}])");
  sdk.Until(FrameCase::kProtocolError);
  Save(sdk.trace(), "sdk");
}

TEST_F(RecordFrames, TheSdkAtAGoodbye) {
  SdkSession sdk(Channel(), "the SDK: a Goodbye while an answer runs, which is finished");
  sdk.Call(kLinks);
  sdk.Call(R"(ask {"id":"runs","uncertainty":0.95,"prompt":"HOLD"})");
  sdk.Until(FrameCase::kTokens);
  std::thread drain([this] { daemon_->DrainAndStop(); });
  sdk.Until(FrameCase::kGoodbye);
  sdk.Call(R"(ask {"id":"away","uncertainty":0.95,"prompt":"why?"})");
  backend_.Release();
  chat_backend_.Release();
  sdk.Until(FrameCase::kCompleted);
  sdk.HalfClose();
  drain.join();
  Save(sdk.trace(), "sdk-goodbye");
}

TEST_F(RecordFrames, TheSdkWhileSitesChange) {
  SdkSession sdk(Channel(), "the SDK: both sites are drained and resumed, then one goes and another comes");
  sdk.Call(kLinks);
  sdk.Call(R"(ask {"id":"before","uncertainty":0.95,"prompt":"why?"})");
  sdk.Until(FrameCase::kCompleted);
  Drain("radio", "", /*resume=*/false);
  Drain("rate", "", /*resume=*/false);
  Drain("rate", "0", /*resume=*/false);
  sdk.UntilSite("rate", false);  // nobody takes chats now
  sdk.Call(R"(ask {"id":"drained","uncertainty":0.1,"prompt":"why?","local_delay_s":2})");
  sdk.Until(FrameCase::kDecision);
  Drain("radio", "", /*resume=*/true);
  Drain("rate", "", /*resume=*/true);
  Drain("rate", "0", /*resume=*/true);
  sdk.UntilSite("rate", true);
  Reload();
  sdk.UntilSite("late", false);
  sdk.Call(R"(links [{"site":"rate","uplink_bps":2e7},{"site":"late","uplink_bps":3e7}])");
  sdk.Call(R"(ask {"id":"after","uncertainty":0.95,"prompt":"why?"})");
  sdk.Until(FrameCase::kCompleted);
  Save(sdk.trace(), "sdk-sites");
}

TEST_F(RecordFrames, Raw) {
  RawTrace raw(Channel(), "raw frames: what the SDK never sends, and what goad says of it");
  raw.Send(FrameOf("query { query_id: 'early' uncertainty: 0.5 prompt_bits: 8 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("hello { protocol_version: 9 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf(
      "hello { protocol_version: 1 uncertainty_metric: UNCERTAINTY_METRIC_MEAN_LOGPROB uncertainty_tokens: 257 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("hello { protocol_version: 1 uncertainty_method: 'm' }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(
      FrameOf("hello { protocol_version: 1 device_name: 'raw' local_model: 'm' uncertainty_metric: "
              "UNCERTAINTY_METRIC_MAX_PROBABILITY uncertainty_version: 1 tx_power_dbm: 23 uncertainty_candidates: 10 "
              "prompt_form: 'chat' }"));
  raw.Read(FrameCase::kWelcome);
  raw.Send(FrameOf("hello { protocol_version: 1 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(v1::DeviceFrame());
  raw.Read(FrameCase::kProtocolError);
  raw.Comment("links of every kind");
  raw.Send(FrameOf(
      "link_report { links { site: 'radio' rsrp_dbm: -90 age_s: 0.5 } links { site: 'rate' uplink_bps: 1e7 } }"));
  raw.Send(FrameOf("link_report { links { site: 'radio' uplink_snr_db: 12 } links { site: 'moon' gain_db: -80 } }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("link_report { links { site: 'rate' gain_db: -80 } }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("link_report { links { site: 'radio' gain_db: 5 } links { site: 'rate' } }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Comment("queries");
  raw.Send(FrameOf("query { query_id: 'bad' uncertainty: 2 prompt_bits: 8 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("query { query_id: 'poem' uncertainty: 0.5 prompt_bits: 8 kind: 'poem' }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("query { query_id: 'none' prompt_bits: 8 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("query { query_id: 'one' prompt_bits: 8 first_token { top { token: 'a' probability: 1 } } }"));
  raw.Read(FrameCase::kProtocolError);
  const std::string q =
      "query { query_id: 'q' uncertainty: 0.95 prompt_kind: PROMPT_KIND_TEXT prompt_bits: 800 local_delay_s: 0.5 "
      "prompt_tokens: 3 max_output_tokens: 16 expected_output_tokens: 0 }";
  raw.Send(FrameOf(q));
  raw.Read(FrameCase::kDecision);
  raw.Send(FrameOf(q));  // again: told again
  raw.Read(FrameCase::kDecision);
  raw.Send(FrameOf("query { query_id: 'q' uncertainty: 0.5 prompt_bits: 8 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf(
      "prompt { query_id: 'q' text: 'HOLD' temperature: 0.5 stop: 'x' seed: 3 top_logprobs: 2 upload_s: 0.01 }"));
  raw.Read(FrameCase::kTokens);
  raw.Send(FrameOf("prompt { query_id: 'q' text: 'again' }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Comment("as many as a session may have, and one more");
  raw.Send(FrameOf("query { query_id: 'inline' uncertainty: 0.95 local_delay_s: 0.5 inline_prompt { text: 'HOLD' } }"));
  raw.Read(FrameCase::kDecision);
  raw.Read(FrameCase::kTokens);
  raw.Send(FrameOf("query { query_id: 'third' uncertainty: 0.95 prompt_bits: 8 local_delay_s: 0.5 }"));
  raw.Read(FrameCase::kDecision);
  raw.Send(FrameOf("cancel { query_id: 'inline' }"));
  raw.Read(FrameCase::kCancelled);
  raw.Send(FrameOf("cancel { query_id: 'inline' }"));  // crossed: no answer
  backend_.Release();
  chat_backend_.Release();
  raw.Read(FrameCase::kTokens);
  raw.Read(FrameCase::kCompleted);
  raw.Comment("prompts that come wrongly");
  raw.Send(FrameOf("prompt { query_id: 'q' text: 'late' }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("query { query_id: 'big' uncertainty: 0.95 prompt_bits: 8 local_delay_s: 0.5 }"));
  raw.Read(FrameCase::kDecision);
  raw.Send(FrameOf("prompt { query_id: 'big' text: 'more than was said' }"));
  raw.Read(FrameCase::kFailed);
  raw.Send(FrameOf("outcome { query_id: 'third' local_delay_s: 0.5 quality: 0.75 }"));
  raw.Send(FrameOf("outcome { query_id: 'third' local_delay_s: 0.5 quality: 7 }"));
  raw.Read(FrameCase::kProtocolError);
  raw.Send(FrameOf("query { query_id: 'sure' uncertainty: 0.1 prompt_bits: 8 }"));
  raw.Read(FrameCase::kDecision);
  raw.Comment("an OpenAI request: what is passed on, and what is not");
  raw.Send(
      FrameOf("query { query_id: 'whole' uncertainty: 0.95 prompt_kind: PROMPT_KIND_CHAT prompt_bits: 2000 "
              "local_delay_s: 0.5 }"));
  raw.Read(FrameCase::kDecision);
  raw.Send(FrameOf(
      R"(prompt { query_id: 'whole' options_json: '{"top_p":0.5,"response_format":{"type":"text"}}' reasoning: true chat {)"
      R"( messages { role: 'developer' content: 'be brief' })"
      R"( messages { json: '{"role":"user","name":"app","content":[{"type":"text","text":"HOLD"}]}' } } })"));
  raw.Read(FrameCase::kTokens);
  backend_.Release();
  chat_backend_.Release();
  raw.Read(FrameCase::kTokens);
  raw.Read(FrameCase::kCompleted);
  raw.Send(FrameOf("query { query_id: 'listed' uncertainty: 0.95 prompt_bits: 800 local_delay_s: 0.5 }"));
  raw.Read(FrameCase::kDecision);
  raw.Send(FrameOf(R"(prompt { query_id: 'listed' text: 'why?' options_json: '{"n":2}' })"));
  raw.Read(FrameCase::kFailed);
  raw.Comment("what the prompt will need is more than any server can");
  raw.Send(
      FrameOf("query { query_id: 'able' must_offload: true prompt_kind: PROMPT_KIND_CHAT prompt_bits: 80 "
              "prompt_tokens: 8192 max_output_tokens: 1 needs_tools: true needs_images: true }"));
  raw.Read(FrameCase::kFailed);
  raw.Send(
      FrameOf("query { query_id: 'unable' uncertainty: 0.9 prompt_kind: PROMPT_KIND_CHAT prompt_bits: 80 "
              "prompt_tokens: 8192 max_output_tokens: 1 needs_images: true }"));
  raw.Read(FrameCase::kDecision);
  raw.Comment("an answer that breaks off");
  raw.Send(FrameOf("query { query_id: 'breaks' must_offload: true prompt_bits: 80 }"));
  raw.Read(FrameCase::kDecision);
  raw.Send(FrameOf("prompt { query_id: 'breaks' text: 'BREAK' }"));
  raw.Read(FrameCase::kTokens);
  backend_.Release();
  chat_backend_.Release();
  raw.Read(FrameCase::kFailed);
  Save(raw.trace(), "raw");
}

TEST_F(RecordFrames, RawMoved) {
  RawTrace raw(Channel(), "raw frames: a device that hears only a neighbour's sites");
  raw.Send(FrameOf("hello { protocol_version: 1 }"));
  raw.Read(FrameCase::kWelcome);
  raw.Send(FrameOf("link_report { links { site: 'hill' gain_db: -80 } links { site: 'mill' uplink_bps: 1e7 } }"));
  raw.Read(FrameCase::kGoodbye);
  raw.Send(FrameOf("query { query_id: 'crosses' uncertainty: 0.95 prompt_bits: 8 local_delay_s: 0.5 }"));
  raw.Read(FrameCase::kDecision);
  raw.HalfClose();
  Save(raw.trace(), "raw-moved");
}

TEST_F(RecordFrames, RawAtAGoodbye) {
  RawTrace raw(Channel(), "raw frames: a query that crosses a Goodbye");
  raw.Send(FrameOf("hello { protocol_version: 1 }"));
  raw.Read(FrameCase::kWelcome);
  raw.Send(FrameOf("query { query_id: 'runs' uncertainty: 0.95 inline_prompt { text: 'HOLD' } }"));
  raw.Read(FrameCase::kDecision);
  raw.Read(FrameCase::kTokens);
  std::thread drain([this] { daemon_->DrainAndStop(); });
  raw.Read(FrameCase::kGoodbye);
  raw.Send(FrameOf("query { query_id: 'crosses' uncertainty: 0.95 prompt_bits: 8 local_delay_s: 0.5 }"));
  raw.Read(FrameCase::kDecision);
  backend_.Release();
  chat_backend_.Release();
  raw.Read(FrameCase::kTokens);
  raw.Read(FrameCase::kCompleted);
  raw.HalfClose();
  drain.join();
  Save(raw.trace(), "raw-goodbye");
}

TEST_F(RecordFrames, Ask) {
  auto stub = v1::Offload::NewStub(Channel());
  const auto record = [&](const std::string& name, const std::string& what, const std::string& text) {
    Trace trace;
    trace.Comment(what);
    v1::AskRequest request;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request));
    trace.Frame("ask", request);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    auto reader = stub->Ask(&context, request);
    v1::ServerFrame frame;
    while (reader->Read(&frame)) {
      trace.Frame("server", frame);
      if (frame.has_tokens() && frame.tokens().text_offset() == 0) {
        backend_.Release();
        chat_backend_.Release();
      }
    }
    EXPECT_TRUE(reader->Finish().ok());
    Save(trace, name);
  };
  record("ask", "Ask without id and confidence, links beside it",
         "query { inline_prompt { text: 'HOLD' } } links { site: 'radio' gain_db: -80 } links { site: 'moon' gain_db: "
         "-80 }");
  record("ask-chat", "Ask with a chat prompt",
         "query { query_id: 'q' uncertainty: 0.9 prompt_kind: PROMPT_KIND_CHAT local_delay_s: 1 inline_prompt { chat { "
         "messages { role: 'user' content: 'HOLD' } } } } links { site: 'rate' uplink_bps: 1e7 }");
}

}  // namespace
}  // namespace goad::server
