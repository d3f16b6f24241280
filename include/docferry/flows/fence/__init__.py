"""The fence on MongoDB, and the marker that says who leads: raised, lifted, compared with the mode, put right."""
