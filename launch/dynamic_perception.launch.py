"""Starts the perception node, the resource manager and the hardware monitor, and on request a camera."""

import os
import posixpath

from ament_index_python.packages import get_package_share_directory
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

PACKAGE = "dynamic_perception"
CONFIG = posixpath.join(get_package_share_directory(PACKAGE), "config")
PARAMETERS_FILE = posixpath.join(CONFIG, "dynamic_perception.yaml")
# Whole frames need more shared memory than Fast DDS takes by default; whoever has a profile of their own keeps it.
FAST_DDS_PROFILE = "FASTDDS_DEFAULT_PROFILES_FILE"
ENVIRONMENT = {} if FAST_DDS_PROFILE in os.environ else {FAST_DDS_PROFILE: posixpath.join(CONFIG, "fastdds.xml")}
LOG_LEVELS = ["debug", "info", "warn", "error", "fatal"]

ARGUMENTS = [
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of every node; empty: the root."),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
    DeclareLaunchArgument("params_file", default_value=PARAMETERS_FILE, description="Parameter file of every node."),
    DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the nodes at start."),
    DeclareLaunchArgument("log_level", default_value="info", choices=LOG_LEVELS, description="What the nodes log."),
    DeclareLaunchArgument(
        "image_topic",
        default_value="image",
        description="Where images come from; compressed ones from <image_topic>/compressed.",
    ),
    DeclareLaunchArgument(
        "battery_topic",
        default_value="battery_state",
        description="Where the battery state comes from; the default is what the hardware monitor publishes.",
    ),
    DeclareLaunchArgument("model", default_value="", description="Model bundle; empty: as in params_file."),
    DeclareLaunchArgument("camera", default_value="false", description="Also start this package's camera node."),
]


def make_nodes(context):
    """The nodes, for the argument values in `context`."""
    namespace, image_topic, battery_topic, model = (
        LaunchConfiguration(name).perform(context) for name in ("namespace", "image_topic", "battery_topic", "model")
    )
    parameters = [LaunchConfiguration("params_file")]
    parameters += [
        {name: ParameterValue(LaunchConfiguration(name), value_type=bool)} for name in ("use_sim_time", "autostart")
    ]
    model_parameters = [{"model": model}] if model else []
    images = [("image", image_topic), ("image/compressed", f"{image_topic}/compressed")]

    # A robot's own battery driver can have the very name under which the hardware monitor would publish.
    own_battery_topic = posixpath.join("/", namespace, "battery_state")
    driver_has_the_name = battery_topic != "battery_state" and (
        posixpath.join("/", namespace, battery_topic) == own_battery_topic
    )
    monitor_remappings = [("battery_state", "hardware_monitor/battery_state")] if driver_has_the_name else []

    def make_node(executable, remappings, more_parameters=(), condition=None):
        return Node(
            package=PACKAGE,
            executable=executable,
            namespace=namespace,
            parameters=[*parameters, *more_parameters],
            remappings=remappings,
            ros_arguments=["--log-level", LaunchConfiguration("log_level")],
            additional_env=ENVIRONMENT,
            output="screen",
            condition=condition,
        )

    return [
        make_node("perception_node", images, model_parameters),
        make_node("resource_manager_node", [("battery_state", battery_topic)], model_parameters),
        make_node("hardware_monitor_node", monitor_remappings),
        make_node("camera_node", images, condition=IfCondition(LaunchConfiguration("camera"))),
    ]


def generate_launch_description():
    """The arguments, then the nodes."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=make_nodes)])
