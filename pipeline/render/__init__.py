"""Answered rows in readable form: documents with highlighted spans and rendered answers, and escaped text.

Other folders import the documents of answers, the passages of highlight, and the functions of escape.
"""
