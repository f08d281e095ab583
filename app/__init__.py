"""What people open: pages over one ledger, on Streamlit."""
