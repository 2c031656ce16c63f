# Installs the library into a folder of its own, moves that, and builds and runs a program against it: with WAY=package by
# find_package, with WAY=pkg-config by the compiler alone.
set(stage ${BUILD}/native/test/install-${WAY})
file(REMOVE_RECURSE ${stage})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${stage}/first COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${stage}/first ${stage}/moved)

if(WAY STREQUAL "package")
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${stage}/build
    -D CMAKE_C_COMPILER=${CC} -D CMAKE_PREFIX_PATH=${stage}/moved COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${stage}/build COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${stage}/build/consumer COMMAND_ERROR_IS_FATAL ANY)
  return()
endif()

find_program(pkg_config NAMES pkg-config pkgconf)
if(NOT pkg_config)
  message("pkg-config is not installed")
  return()
endif()
set(ENV{PKG_CONFIG_PATH} ${stage}/moved/${LIBDIR}/pkgconfig)
execute_process(COMMAND ${pkg_config} --cflags --libs tensorpress OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
separate_arguments(flags UNIX_COMMAND "${flags}")
execute_process(COMMAND ${CC} ${CMAKE_CURRENT_LIST_DIR}/consumer.c -o ${stage}/consumer ${flags} COMMAND_ERROR_IS_FATAL ANY)
set(ENV{LD_LIBRARY_PATH} ${stage}/moved/${LIBDIR})
execute_process(COMMAND ${stage}/consumer COMMAND_ERROR_IS_FATAL ANY)
