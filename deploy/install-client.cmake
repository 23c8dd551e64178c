# The client SDK as others find it: headers, static libraries, find_package(goad_client), pkg-config. Component "client".
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(client_targets goad_client goad_client_core goad_uncertainty goad_grpc goad_proto)
set_target_properties(goad_client PROPERTIES EXPORT_NAME client)
set_target_properties(goad_client_core PROPERTIES EXPORT_NAME client_core)
set_target_properties(goad_uncertainty PROPERTIES EXPORT_NAME uncertainty)
set_target_properties(goad_grpc PROPERTIES EXPORT_NAME grpc)
set_target_properties(goad_proto PROPERTIES EXPORT_NAME proto)
set(client_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/goad_client)
install(TARGETS ${client_targets} EXPORT goad_client ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT client
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY client_sdk/include/goad DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT client)
install(DIRECTORY proto/goad DESTINATION ${CMAKE_INSTALL_DATADIR}/goad/proto COMPONENT client)
install(EXPORT goad_client NAMESPACE goad:: DESTINATION ${client_cmake_dir} COMPONENT client)
file(WRITE ${CMAKE_BINARY_DIR}/goad_client-config.cmake "include(CMakeFindDependencyMacro)
foreach(package Threads Protobuf gRPC absl OpenSSL)
  find_dependency(\${package})
endforeach()
include(\${CMAKE_CURRENT_LIST_DIR}/goad_client.cmake)
")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/goad_client-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/goad_client-config.cmake ${CMAKE_BINARY_DIR}/goad_client-config-version.cmake
  DESTINATION ${client_cmake_dir} COMPONENT client)
file(RELATIVE_PATH client_include ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})
file(WRITE ${CMAKE_BINARY_DIR}/goad_client.pc "libdir=\${pcfiledir}/..
includedir=\${pcfiledir}/${client_include}

Name: goad_client
Description: Asks the edge scheduler goad about each query of a device
Version: ${PROJECT_VERSION}
Requires: grpc++ protobuf absl_time absl_strings absl_status absl_statusor libcrypto
Libs: -L\${libdir} -lgoad_client -lgoad_client_core -lgoad_uncertainty -lgoad_grpc -lgoad_proto
Cflags: -I\${includedir}
")
install(FILES ${CMAKE_BINARY_DIR}/goad_client.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT client)
install(FILES client_sdk/README.md client_sdk/examples/quickstart.cc client_sdk/examples/CMakeLists.txt
  DESTINATION ${CMAKE_INSTALL_DOCDIR}-client-dev/examples COMPONENT client)
