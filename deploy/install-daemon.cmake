# The daemon as an operator installs it (component "daemon"), what tries it ("tools"), and the Debian packages: cpack -G DEB, from a build that was configured
# with -DCMAKE_INSTALL_PREFIX=/usr.
find_program(HELP2MAN help2man)
find_program(GZIP_PROGRAM gzip REQUIRED)
set(emulator)
if(CMAKE_CROSSCOMPILING_EMULATOR)  # help2man gives the program to a shell
  set(emulator "${CMAKE_CROSSCOMPILING_EMULATOR} ")
endif()
set(man_pages)
if(HELP2MAN AND NOT GOAD_SANITIZE)  # the pages are what --help says
  set(goad_is "the scheduler beside an edge LLM")
  set(goadctl_is "look at a running goad and turn its knobs")
  set(goad-sim_is "decisions and experiments without a daemon")
  set(goad-loadgen_is "play a fleet of devices against a live goad")
  foreach(program goad goadctl goad-sim goad-loadgen)
    set(page ${CMAKE_BINARY_DIR}/man/${program}.8)
    add_custom_command(OUTPUT ${page}.gz COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/man
      COMMAND ${HELP2MAN} --no-info --section 8 --manual goad --name "${${program}_is}" --output ${page} "${emulator}$<TARGET_FILE:${program}>"
      COMMAND ${GZIP_PROGRAM} -9nf ${page}
      DEPENDS ${program} VERBATIM)
    list(APPEND man_pages ${page}.gz)
  endforeach()
endif()
set(completions ${CMAKE_BINARY_DIR}/completions)
foreach(shell bash zsh)
  add_custom_command(OUTPUT ${completions}/${shell} COMMAND ${CMAKE_COMMAND} -E make_directory ${completions}
    COMMAND goadctl completion ${shell} > ${completions}/${shell} DEPENDS goadctl)
endforeach()
add_custom_target(goad_pages ALL DEPENDS ${man_pages} ${completions}/bash ${completions}/zsh)

# What Debian's policy wants of each package.
file(WRITE ${CMAKE_BINARY_DIR}/debian/changelog "goad (${PROJECT_VERSION}-1) unstable; urgency=medium

  * Version ${PROJECT_VERSION}; git has what changed.

 -- goad developers <goad@example.org>  Thu, 26 Nov 2026 00:00:00 +0000
")
execute_process(COMMAND ${GZIP_PROGRAM} -9nkf ${CMAKE_BINARY_DIR}/debian/changelog COMMAND_ERROR_IS_FATAL ANY)
foreach(package goad:daemon goad-client-dev:client goad-device:device goad-tools:tools)
  string(REPLACE ":" ";" package ${package})
  list(GET package 0 name)
  list(GET package 1 component)
  install(FILES deploy/debian/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${component})
  install(FILES ${CMAKE_BINARY_DIR}/debian/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} RENAME changelog.Debian.gz
    COMPONENT ${component})
endforeach()

install(TARGETS goad goadctl goad-sim RUNTIME COMPONENT daemon)
if(man_pages)
  set(daemon_pages ${man_pages})
  list(FILTER daemon_pages EXCLUDE REGEX loadgen)
  install(FILES ${daemon_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man8 COMPONENT daemon)
  install(FILES ${CMAKE_BINARY_DIR}/man/goad-loadgen.8.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man8 COMPONENT tools)
endif()
# What tries a goad from a device's side, on any machine.
install(TARGETS goad-loadgen goad-quickstart RUNTIME COMPONENT tools)
install(FILES deploy/llm/workload.jsonl DESTINATION ${CMAKE_INSTALL_DATADIR}/goad COMPONENT tools)
install(FILES ${completions}/bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME goadctl COMPONENT daemon)
install(FILES ${completions}/zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _goadctl COMPONENT daemon)
# Under /usr (the packages) the configuration is in /etc; under any other prefix it stays within it, also one that is given only to
# cmake --install: an absolute destination would not.
install(CODE "if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\")
  set(goad_etc /etc)
else()
  set(goad_etc \${CMAKE_INSTALL_PREFIX}/etc)
endif()
file(INSTALL DESTINATION \${goad_etc}/goad TYPE FILE FILES ${CMAKE_SOURCE_DIR}/deploy/goad.yaml)" COMPONENT daemon)
install(FILES deploy/systemd/goad.service DESTINATION lib/systemd/system COMPONENT daemon)
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT daemon)
install(FILES deploy/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME runbook.md COMPONENT daemon)
install(DIRECTORY deploy/nginx deploy/keepalived DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT daemon)
install(DIRECTORY deploy/prometheus deploy/grafana DESTINATION ${CMAKE_INSTALL_DATADIR}/goad COMPONENT daemon)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME goad)
set(CPACK_PACKAGE_CONTACT "goad developers <goad@example.org>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL daemon client device tools)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_DAEMON_PACKAGE_NAME goad)
set(CPACK_DEBIAN_DAEMON_PACKAGE_SECTION net)
set(CPACK_DEBIAN_DAEMON_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_DAEMON_PACKAGE_DEPENDS "adduser, init-system-helpers (>= 1.52)")
set(CPACK_DEBIAN_DAEMON_DESCRIPTION "scheduler beside an edge LLM
Decides for each query of each device whether it is answered locally or by an
edge LLM server, runs the admitted ones and streams their answers back.")
file(WRITE ${CMAKE_BINARY_DIR}/debian/conffiles "/etc/goad/goad.yaml\n")
set(CPACK_DEBIAN_DAEMON_PACKAGE_CONTROL_EXTRA "${CMAKE_BINARY_DIR}/debian/conffiles;${CMAKE_SOURCE_DIR}/deploy/debian/postinst;\
${CMAKE_SOURCE_DIR}/deploy/debian/prerm;${CMAKE_SOURCE_DIR}/deploy/debian/postrm")
set(CPACK_DEBIAN_CLIENT_PACKAGE_NAME goad-client-dev)
set(CPACK_DEBIAN_CLIENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_CLIENT_PACKAGE_DEPENDS "libgrpc++-dev, libprotobuf-dev, protobuf-compiler-grpc, libabsl-dev, libssl-dev")
set(CPACK_DEBIAN_CLIENT_DESCRIPTION "client SDK of the edge LLM scheduler goad
Headers, static libraries, a CMake package and pkg-config data: one call that
always returns an answer.")
set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME goad-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION net)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_TOOLS_DESCRIPTION "devices for trying the edge LLM scheduler goad
goad-loadgen plays a fleet of devices against a goad and compares policies,
goad-quickstart asks one question. For any machine that reaches it; the daemon
is not needed.")
include(deploy/install-device.cmake)
include(CPack)
