"""What is in the ledger, what runs, what needs a decision."""

import streamlit as st

from app import reads

st.title("Overview")
st.caption(f"The ledger {reads.ledger().url}")
