# Finds a JDK 25 or newer. To be sourced by bash; starts no process unless a JDK hides its version.

# Sets jdk_version and succeeds if $1 is the home of such a JDK.
is_jdk() {
    local line major
    [ -x "$1/bin/javac" ] && [ -x "$1/bin/java" ] || return 1
    jdk_version=
    if [ -r "$1/release" ]; then
        while IFS= read -r line; do
            case $line in
                JAVA_RUNTIME_VERSION=*) jdk_version=${line#*=}; break ;;
                JAVA_VERSION=*) jdk_version=${line#*=} ;;
            esac
        done <"$1/release"
    else
        line=$("$1/bin/javac" -version 2>&1) || return 1
        jdk_version=${line#* }
    fi
    jdk_version=${jdk_version//\"/}
    major=${jdk_version%%[!0-9]*}
    [ "${major:-0}" -ge 25 ]
}

# Sets jdk, the home of the JDK, and jdk_version: from JAVA_HOME, from PATH, or from where JDKs are usually installed.
find_jdk() {
    local java home=${HOME:-/nonexistent}
    for jdk in "${JAVA_HOME:-/nonexistent}" "${JDK_HOME:-/nonexistent}"; do
        is_jdk "$jdk" && return
    done
    if java=$(type -P javac); then
        while [ -L "$java" ]; do
            jdk=$(readlink "$java")
            case $jdk in
                /*) java=$jdk ;;
                *) java=${java%/*}/$jdk ;;
            esac
        done
        jdk=${java%/*}
        jdk=${jdk%/bin}
        is_jdk "$jdk" && return
    fi
    for jdk in /usr/lib/jvm/* /usr/lib64/jvm/* /usr/java/* /usr/jdk/* /opt/* /opt/*/* /usr/local/*jdk* /usr/local/*java* \
        /usr/local/lib/jvm/* "$home"/.sdkman/candidates/java/* "$home"/.jdks/* "$home"/.m2/jdks/* "$home"/.gradle/jdks/* \
        "$home"/.jbang/cache/jdks/* "$home"/.asdf/installs/java/* "$home"/.local/share/mise/installs/java/* \
        "$home"/.local/share/*jdk* "$home"/*jdk* /Library/Java/JavaVirtualMachines/*/Contents/Home \
        "$home"/Library/Java/JavaVirtualMachines/*/Contents/Home /opt/homebrew/opt/openjdk*; do
        is_jdk "$jdk" && return
    done
    jdk=
    return 1
}
