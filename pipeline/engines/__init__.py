"""The engines that compute units (a loop in this process, or Ray Data), and measurements of their stages.

Other folders import all modules except ray_data, which imports Ray. They get ray_data from `import_ray_engine` of
planning/compute_target.py, which imports it when it is needed.
"""
