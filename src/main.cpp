// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>

#include "base/units.h"
#include "cli/get.h"
#include "cli/put.h"
#include "cli/serve.h"

namespace {

constexpr int kBadUsage = 2;

}  // namespace

int main(int argc, char** argv) {
  using namespace sluice::cli;

  CLI::App app{"Sluice: a content repository for Matrix that streams a download while its upload still runs."};
  app.set_version_flag("--version", std::string("sluice ") + SLUICE_VERSION);
  app.require_subcommand(1);
  app.fallthrough(false);

  ServeOptions serve_options;
  serve_options.program = argv[0];
  auto* serve_command = app.add_subcommand("serve", "Run the server; without a file, on ./sluice-data");
  serve_command->add_option("--config", serve_options.config_file, "The configuration (docs/configuration.md)")
      ->envname("SLUICE_CONFIG");

  std::string checked_file;
  auto* check_command =
      app.add_subcommand("check-config", "Say what is wrong with a configuration, or what is in force");
  check_command->add_option("--config", checked_file, "The configuration file")->required();

  PutOptions put_options;
  auto* put_command = app.add_subcommand("put", "Create an MXC URI, print it at once, then upload");
  put_command->add_option("file", put_options.file, "What to upload; - is standard input")->required();
  put_command->add_option("--server", put_options.server, "Base URL; else SLUICE_SERVER, else http://127.0.0.1:8090");
  put_command->add_option(
      "--token", put_options.token,
      "Access token; else SLUICE_TOKEN, else, on this machine, token in SLUICE_DATA_DIR or ./sluice-data");
  put_command->add_option("--type", put_options.content_type, "Content type; else guessed from the file's name");
  put_command->add_option("--name", put_options.filename, "File name to tell; else the file's own");
  put_command->add_flag("--quiet,-q", put_options.quiet, "No progress");

  GetOptions get_options;
  auto* get_command = app.add_subcommand("get", "Download; follows an upload that is still running");
  get_command->add_option("mxc", get_options.mxc, "mxc://server/id")->required();
  get_command->add_option("-o,--output", get_options.output,
                          "Where to; - is standard output; else the media's own name");
  get_command->add_option("--server", get_options.server, "Base URL; else SLUICE_SERVER, else http://127.0.0.1:8090");
  get_command->add_option(
      "--token", get_options.token,
      "Access token; else SLUICE_TOKEN, else, on this machine, token in SLUICE_DATA_DIR or ./sluice-data");
  get_command->add_flag("--quiet,-q", get_options.quiet, "No progress");
  get_command->add_option_function<std::string>(
      "--wait",
      [&get_options](const std::string& text) {
        get_options.wait = sluice::parse_duration(text);
        if (!get_options.wait) throw CLI::ValidationError("--wait", "is a time like 20s or 5m, not " + text);
      },
      "How long to wait for an upload to begin, or to go on: 20s, 5m, 24h (the default)");

  auto* help_command = app.add_subcommand("help", "Show this");
  const std::string help = app.help();  // asked after parsing, it would be that of the subcommand

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked_for) {  // --help, --version
    return app.exit(asked_for);
  } catch (const CLI::ParseError& mistake) {
    std::cerr << "sluice: " << mistake.what() << " (try: sluice help)\n";
    return kBadUsage;
  }
  if (*help_command) {
    std::cout << help;
    return 0;
  }
  if (*serve_command) return serve(serve_options);
  if (*check_command) return check_config(checked_file);
  if (*put_command) return put(put_options);
  return get(get_options);
}
