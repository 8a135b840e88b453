#!/usr/bin/env bash
# xacro makes numbers of names: a robot with the serial number 007 gets a link arm_7, and version 1.10 becomes 1.1.
#
# One would guess that xacro puts a property's text where ${...} names it, as it puts an argument's where $(arg ...)
# does, or at least where it is given as a Python text, value="${'007'}". A property's value is taken for a number where
# it can be one, the text from ${'007'} too: leading zeros go, 1e3 is 1000.0, a fraction's last zero goes. The same holds for the parameters of macros, as of <xacro:arm prefix="01"/>; arguments keep their
# text. So one file that writes the serial number both ways has two names for one link, below. Links and joints of other
# names than the controller's, the SRDF's or the policy's are found missing elsewhere, or not at all, where two units are
# 01 and 1. 0x10 and 1_2 stay as they are, though Python would read these as numbers too.
#
# Cure: a letter in front (s007), or $(arg ...) to the end.
#
# Seen with Python 3.11.7, xacro 2.1.1, Linux x86_64, on 2026-12-01. Fails if any of it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
PATH="$folder/venv/bin:$PATH"
export PIP_DISABLE_PIP_VERSION_CHECK=1
pip install -q xacro==2.1.1

cat > "$folder/arm.xacro" <<'XML'
<robot name="arm" xmlns:xacro="http://www.ros.org/wiki/xacro">
  <xacro:arg name="serial" default="007"/>
  <xacro:property name="serial" value="007"/>
  <xacro:property name="text" value="${'007'}"/>
  <xacro:property name="version" value="1.10"/>
  <xacro:property name="model" value="1e3"/>
  <xacro:property name="hex" value="0x10"/>
  <xacro:property name="pair" value="1_2"/>
  <xacro:property name="letter" value="s007"/>
  <xacro:macro name="unit" params="prefix"><link name="macro_${prefix}"/></xacro:macro>
  <link name="arg_$(arg serial)"/>
  <link name="property_${serial}"/>
  <link name="text_${text}"/>
  <link name="version_${version}"/>
  <link name="model_${model}"/>
  <link name="hex_${hex}"/>
  <link name="pair_${pair}"/>
  <link name="letter_${letter}"/>
  <xacro:unit prefix="01"/>
</robot>
XML
python -c 'import platform; print("Python", platform.python_version())'
seen=$(xacro "$folder/arm.xacro" | sed -n 's/.*link name="\(.*\)".*/\1/p')
echo "$seen"
expected="arg_007
property_7
text_7
version_1.1
model_1000.0
hex_0x10
pair_1_2
letter_s007
macro_1"
[[ $seen == "$expected" ]] || { echo "CHANGED" >&2; exit 1; }
