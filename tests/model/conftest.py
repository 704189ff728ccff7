"""Lets the tests of this folder import the reference model beside them."""
