// The daemon's configuration as plain structs; deploy/goad.yaml is its reference for people.
// Defaults are set here and nowhere else. "hot" fields change by reload; the others need a restart, and a reload that
// changes one is refused by name. Sites and backends are hot as a whole, and keep their places: see place.h. SI units;
// dB and dBm appear as they do in the file, converted where they are used.
#ifndef GOAD_SERVER_CONFIG_CONFIG_H_
#define GOAD_SERVER_CONFIG_CONFIG_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "goad/uncertainty_source.h"
#include "scheduler/calibration/certificate.h"
#include "scheduler/types.h"
#include "server/base/monotonic_time.h"
#include "server/config/prompt_options.h"

namespace goad::server {

struct TlsConfig {                                      // restart-only paths; what the files hold is hot
  std::string certificate;                              // PEM chain; empty = plaintext
  std::string key;                                      // PEM
  std::string client_ca;                                // PEM; set = client certificates are required (mTLS)
  std::string crl;                                      // PEM list of revoked client certificates; hot; empty = none
  std::vector<std::string> revoked;                     // what it holds, sorted; see RevokedName
  std::string certificate_pem, key_pem, client_ca_pem;  // what the files hold
  absl::Time expires;                                   // the certificate
};

struct ListenConfig {  // restart-only
  std::string address = "0.0.0.0:7443";
  TlsConfig tls;
};

enum class BackendApi { kCompletions, kChat };

inline constexpr int kMostContext = 100'000'000;  // tokens of a backend, configured or claimed

struct ProbeConfig {                          // hot
  std::string path;                           // asked for; empty = /health, and where there is none /v1/models
  absl::Duration timeout = absl::Seconds(4);  // to connect and answer; 10ms..1h
};

// What became of a site or backend since it was read from the file. Never in the file.
struct Presence {
  bool drained = false;                                  // by an operator: nothing new until it is resumed
  MonotonicTime removed_at = MonotonicTime::Infinite();  // not in the file any more: what runs there is finished

  bool removed() const { return removed_at != MonotonicTime::Infinite(); }
  bool leaving() const { return drained || removed(); }
};

struct BackendConfig {                        // hot
  std::string url;                            // http:// or https://, without the /v1 path
  std::string model = "llm";                  // the `model` field of requests; 1..128 bytes
  BackendApi api = BackendApi::kCompletions;  // /v1/completions or /v1/chat/completions
  int slots = 0;         // most at once, 1..4096; less where it says less; 0 = auto: what it says, else 4
  bool gateway = false;  // several servers answer here: one's slots and load are not taken for all
  // What it can; before what it says of itself. Nothing = what it says, else tools and no images. Both need the chat
  // API.
  std::optional<bool> tools, images;
  int context = 0;            // tokens of prompt and answer together, 1..1e8; 0 = what it says, else nobody knows
  bool chat_as_text = false;  // completions: takes chat, too, as lines of text; see README
  absl::Duration first_byte;  // to the first token; 0 = dispatch.first_byte; 0..1h
  ProbeConfig probe;
  std::string api_key_file;                   // file with the bearer token, read again at every reload; empty = none
  std::string ca_file;                        // PEM for https, read again at every reload; empty = the system's
  std::string api_key;                        // what api_key_file holds; never printed
  std::shared_ptr<const std::string> ca_pem;  // what ca_file holds; null = the system's
  Presence presence;

  bool takes_chat() const { return api == BackendApi::kChat || chat_as_text; }
};

struct UplinkConfig {  // hot
  sched::UplinkModel model = sched::UplinkModel::kMeasured;
  double bandwidth_hz = 100e6;         // shannon; > 0
  double noise_density_dbm_hz = -174;  // shannon; -250..-50
  double reference_power_dbm = 18;     // shannon: rsrp_dbm minus this is the gain; -100..100
  bool shared = true;                  // measured: a device's rate is divided by the uploads under way

  double NoiseWatts() const {  // shannon: over the whole band
    return std::pow(10, (noise_density_dbm_hz - 30) / 10) * bandwidth_hz;
  }
};

struct ComputeConfig {  // hot
  sched::ComputeModel model = sched::ComputeModel::kBatching;
  bool learn = true;                          // batching: the next four are where goad's own measurements start
  double overhead_s = 0;                      // batching, of a query whatever its size; >= 0
  double prefill_tokens_per_s = 5000;         // batching; > 0
  double token_time_s = 0.005;                // batching; >= 0
  double token_time_per_query_s = 0.001;      // batching, per query on the same backend; >= 0
  double capacity_flops = 0;                  // equal_share; > 0
  double max_share_flops = sched::kInfinity;  // equal_share; > 0
  double parameters = 0;                      // equal_share: 2 * parameters FLOP per token; >= 0
};

struct SiteConfig {  // hot
  std::string name;  // 1..63 of a-z 0-9 - _ . ; a metric label
  UplinkConfig uplink;
  ComputeConfig compute;
  int max_queries = 0;  // granted and running at once; 0 = the slots of its backends; never more than those
  std::vector<BackendConfig> backends;  // 1..64, removed ones included
  Presence presence;
};

// Whether a backend that is there takes chat.
inline bool TakesChat(const SiteConfig& site) {
  return std::any_of(site.backends.begin(), site.backends.end(),
                     [](const BackendConfig& backend) { return backend.takes_chat() && !backend.presence.leaving(); });
}

struct EpochConfig {                                  // hot
  absl::Duration period = absl::Milliseconds(20);     // an epoch runs this long after the oldest arrival; 1ms..10s
  absl::Duration min_period = absl::Milliseconds(2);  // or after this much silence; 0..period
};

struct PolicyConfig {  // hot
  std::string name = "goa";
  double tau = 0.8;        // uncertainty above must be offloaded; 0..1; not read with a calibration
  double lambda_s = 0.05;  // goa-relocate: what a local answer costs per unit of uncertainty; 0 = delay only; 0..3600
  std::map<UncertaintyMetric, double> tau_per_metric;  // instead of tau; 0..1; none with a calibration
  // With a calibration policies read the value of offloading instead of the uncertainty, and one of the next two says
  // above which it must be offloaded.
  std::string calibration_file;                         // read again at every reload; empty = none
  std::optional<double> value_tau;                      // 0..1
  std::optional<double> accuracy;                       // promised: value_tau is the certificate's; 0.01..0.9999
  double confidence = 0.9;                              // of the promise; 0.5..0.9999
  std::shared_ptr<const calibration::Curves> curves;    // what the file holds; null = there is none
  std::optional<calibration::Certificate> certificate;  // of accuracy

  // What the number that policies read is compared with.
  double TauOf(UncertaintyMetric metric) const {
    if (certificate) return certificate->value_tau;
    if (curves != nullptr) return value_tau.value_or(0);
    const auto own = tau_per_metric.find(metric);
    return own == tau_per_metric.end() ? tau : own->second;
  }
  double Tau() const { return tau_per_metric.empty() ? TauOf(UncertaintyMetric::kMargin) : tau; }  // of all others
};

// A caller is of the tenant that its bearer token names, else of the first whose certificates match its client
// certificate, else of "default", which need not be listed.
struct TenantConfig {                     // hot
  std::string name;                       // 1..63 of a-z 0-9 - _ . ; a metric label
  double weight = 1;                      // of its share of the slots when they are short; 0.001..1000
  std::vector<std::string> certificates;  // names in client certificates; "*.example" = all that end in .example
  int max_queries = 0;                    // granted or running at once; 0 = no limit
  double queries_per_second = 0;          // more are LOCAL/QUOTA; a second's worth may come at once; 0 = no limit
  double prompt_tokens_per_minute = 0;    // the same, a minute's worth; 0 = no limit
  double max_offloaded_share = 1;         // of its last 1000 or so decisions, whatever it says of its uncertainty; 0..1
};
inline constexpr char kDefaultTenant[] = "default";

struct AuthConfig {  // hot
  std::string
      tokens_file;  // lines "TENANT:HEX", HEX the SHA-256 of a bearer token; read again at every reload; empty = none
  bool required = false;  // callers with neither a token nor a client certificate are refused
  struct Token {
    std::string tenant;
    std::string sha256;  // 32 bytes
  };
  std::vector<Token> tokens;  // what the file holds
};

struct LimitsConfig {               // hot, but for sessions
  int sessions = 10000;             // streams at once; 1..1000000
  int sessions_per_identity = 0;    // of one certificate name, token or, without those, address; 0 = half of sessions
  int connections = 10000;          // to the device port at once; 1..1000000
  int connections_per_address = 0;  // of one IPv4 address or IPv6 /64, also arriving at once; 0 = half of connections
  int streams_per_connection =
      100;  // calls at once on one connection, and new ones per second; 1..100000. Restart-only
  int64_t transport_bytes = 256 << 20;  // what gRPC may hold for the device port's connections and calls; restart-only
  int queries_per_session = 4;          // live at once; 1..64
  int frames_per_second = 500;          // of one session; a second's worth may come at once; more end it; 1..1000000
  int waiting_queries = 10000;          // submitted and not yet seen by the engine; more are LOCAL/OVERLOAD
  int64_t prompt_bytes = 256 << 10;     // 1..3MiB
  int64_t inline_prompt_bytes = 64 << 20;  // held for all queries that came with their prompt; more are LOCAL/OVERLOAD
  int64_t outbox_bytes = 1 << 20;          // per session, unread; above half of it its backend reads pause
  int64_t outboxes_bytes =
      256 << 20;  // of all sessions, unread; beyond it those that hold more than 64 KiB lose their answers
  int max_output_tokens = 1024;  // 1..1000000; larger requests are refused
  // Of an OpenAI request, what Prompt.options_json may hold; 0..128 names of 1..64 bytes.
  std::vector<std::string> prompt_options = DefaultPromptOptions();
  bool remote_images = false;  // image_url may be other than data:, so that servers fetch what a device names
  absl::Duration link_max_age = absl::Seconds(2);           // older link reports are not used
  absl::Duration mandatory_wait = absl::Milliseconds(200);  // a forced query waits this long for an eligible site
  absl::Duration grant = absl::Seconds(5);                  // to upload the prompt after OFFLOAD
  absl::Duration slow_consumer =
      absl::Seconds(10);  // a paused answer is given up after this, and who reads nothing is cut off
  absl::Duration session_max_age =
      absl::Hours(12);                            // then Goodbye, spread over the last third; 0 = never. Restart-only
  absl::Duration retry_after = absl::Seconds(1);  // least hint with whatever is refused for now

  int SessionsPerIdentity() const { return sessions_per_identity > 0 ? sessions_per_identity : (sessions + 1) / 2; }
  int ConnectionsPerAddress() const {
    return connections_per_address > 0 ? connections_per_address : (connections + 1) / 2;
  }
};

struct DispatchConfig {                           // hot
  absl::Duration connect = absl::Seconds(2);      // to connect to a backend
  absl::Duration first_byte = absl::Seconds(30);  // from the request to the first token, thought included
  absl::Duration between_tokens = absl::Seconds(10);
  absl::Duration total = absl::Seconds(300);       // of one request
  absl::Duration probe_period = absl::Seconds(1);  // of each backend; of one that is away every 2 s at least
  int failures_to_open = 3;                        // bad probes in a row: down; failed requests in a row: half-open
};

struct DecisionLogConfig {   // restart-only
  std::string path;          // empty = off
  int snapshot_every = 100;  // write the whole snapshot of every Nth epoch; 1 = all, 0 = none
  int64_t max_size_bytes = 256 << 20;
  int max_files = 4;  // rotated files kept, the live one included; 1..100
};

struct LogConfig {             // level is hot
  std::string level = "info";  // trace, debug, info, warn, error
};

// Another goad to which devices may be sent. No two share a site, and none has one of this goad's.
struct NeighbourConfig {
  std::string address;             // HOST:PORT, as devices reach it
  std::vector<std::string> sites;  // 0..64, that it schedules
};

struct LoadedFile {
  std::string path;
  size_t hash = 0;  // of what it held, within this process
};

struct Config {
  ListenConfig listen;
  std::string admin_address = "unix:/run/goad/admin.sock";  // restart-only; empty = off
  std::string metrics_address = "127.0.0.1:9464";           // restart-only; empty = off
  std::string lock_file;                                    // restart-only; empty = none; one daemon per file
  EpochConfig epoch;
  PolicyConfig policy;
  AuthConfig auth;
  std::vector<TenantConfig> tenants;        // 0..1000
  std::vector<std::string> kinds;           // hot; 0..32; what devices may say of a question, beside nothing
  std::vector<SiteConfig> sites;            // 1..64, removed ones included
  std::vector<NeighbourConfig> neighbours;  // hot; 0..16
  LimitsConfig limits;
  DispatchConfig dispatch;
  DecisionLogConfig decision_log;
  LogConfig log;
  absl::Duration drain_timeout = absl::Seconds(30);  // hot
  uint64_t version = 0;                              // set by ConfigStore: counts loads from 1

  // Whose limits count for a caller of this tenant: its own, or those of "default"; null when neither is configured.
  const TenantConfig* FindTenant(const std::string& name) const {
    const TenantConfig* found = nullptr;
    for (const TenantConfig& tenant : tenants) {
      if (tenant.name == name) return &tenant;
      if (tenant.name == kDefaultTenant) found = &tenant;
    }
    return found;
  }
  // Null when there is none of that name, or it was removed.
  const SiteConfig* FindSite(const std::string& name) const {
    const auto found = std::find_if(sites.begin(), sites.end(), [&](const SiteConfig& site) {
      return site.name == name && !site.presence.removed();
    });
    return found == sites.end() ? nullptr : &*found;
  }
  // The neighbour that has the site; null when none has.
  const NeighbourConfig* FindNeighbour(const std::string& site) const {
    const auto found = std::find_if(neighbours.begin(), neighbours.end(), [&](const NeighbourConfig& neighbour) {
      return std::find(neighbour.sites.begin(), neighbour.sites.end(), site) != neighbour.sites.end();
    });
    return found == neighbours.end() ? nullptr : &*found;
  }
  std::vector<std::string> warnings;  // of the load: no errors, but somebody should know
  std::vector<LoadedFile> files;      // that were read for it, its own first
};

}  // namespace goad::server

#endif  // GOAD_SERVER_CONFIG_CONFIG_H_
