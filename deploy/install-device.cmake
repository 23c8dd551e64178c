# goad-device as a device has it: a package of its own (component "device").
set(device_page)
if(HELP2MAN AND NOT GOAD_SANITIZE)
  set(device_page ${CMAKE_BINARY_DIR}/man/goad-device.1)
  add_custom_command(OUTPUT ${device_page}.gz COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/man
    COMMAND ${HELP2MAN} --no-info --section 1 --manual goad --name "an OpenAI endpoint on the device, with an edge behind it"
            --output ${device_page} "${emulator}$<TARGET_FILE:goad-device>"
    COMMAND ${GZIP_PROGRAM} -9nf ${device_page}
    DEPENDS goad-device VERBATIM)
  add_custom_target(goad_device_page ALL DEPENDS ${device_page}.gz)
  install(FILES ${device_page}.gz DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT device)
endif()
install(TARGETS goad-device RUNTIME COMPONENT device)
install(FILES deploy/systemd/goad-device.service DESTINATION lib/systemd/system COMPONENT device)
install(FILES client_sdk/device/README.md DESTINATION ${CMAKE_INSTALL_DOCDIR}-device COMPONENT device)
install(CODE "if(CMAKE_INSTALL_PREFIX STREQUAL \"/usr\")
  set(goad_etc /etc)
else()
  set(goad_etc \${CMAKE_INSTALL_PREFIX}/etc)
endif()
file(INSTALL DESTINATION \${goad_etc}/default TYPE FILE FILES ${CMAKE_SOURCE_DIR}/deploy/systemd/goad-device)" COMPONENT device)

set(CPACK_DEBIAN_DEVICE_PACKAGE_NAME goad-device)
set(CPACK_DEBIAN_DEVICE_PACKAGE_SECTION net)
set(CPACK_DEBIAN_DEVICE_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_DEVICE_DESCRIPTION "OpenAI endpoint on a device, with the edge scheduler goad behind it
Any OpenAI app on the device asks it; it answers with the local model server,
or with an edge LLM where goad says so. Set /etc/default/goad-device, then
systemctl enable --now goad-device.")
file(WRITE ${CMAKE_BINARY_DIR}/debian/device/conffiles "/etc/default/goad-device\n")
set(CPACK_DEBIAN_DEVICE_PACKAGE_CONTROL_EXTRA "${CMAKE_BINARY_DIR}/debian/device/conffiles")
